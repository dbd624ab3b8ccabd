// What two validators from npm make of a file: `node check.mjs FOLDER`, FOLDER being where `npm ci` installed them.
// One JSON request a line on stdin, one JSON answer a line on stdout.
//
//   {"path", "anchors": PEM}   -> {"wasm": …, "ts": …}
//
// wasm: {"state", "success": [code…], "failure": [code…]} of @contentauth/c2pa-wasm, under these anchors
// ts:   {"valid", "codes": [[code, success]…]}            of @trustnxt/c2pa-ts, which knows no anchors
//
// A file without a manifest, or one that a validator throws at, is {"error"}.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const installed = (...path) => join(process.argv[2], "node_modules", ...path);
const load = (...path) => import(pathToFileURL(installed(...path)).href);

const wasm = await load("@contentauth", "c2pa-wasm", "pkg", "c2pa.js");
wasm.initSync({ module: await readFile(installed("@contentauth", "c2pa-wasm", "pkg", "c2pa_bg.wasm")) });
const { BMFF } = await load("@trustnxt", "c2pa-ts", "dist", "asset", "index.js");
const { SuperBox } = await load("@trustnxt", "c2pa-ts", "dist", "jumbf", "index.js");
const { ManifestStore } = await load("@trustnxt", "c2pa-ts", "dist", "manifest", "index.js");

// It reads only files that call themselves HEIF pictures; its BMFF code is the same for all of them.
BMFF.canReadBrands.add("isom");

const codes = (entries) => (entries ?? []).map((entry) => entry.code);

async function byWasm(content, anchors) {
  const settings = {
    version: 1,
    trust: { trust_anchors: anchors },
    verify: { verify_trust: true, verify_timestamp_trust: true, remote_manifest_fetch: false, ocsp_fetch: false },
  };
  const reader = await wasm.WasmReader.fromBytes("video/mp4", content, JSON.stringify(settings));
  try {
    const report = JSON.parse(reader.json());
    const found = report.validation_results?.activeManifest ?? {};
    return { state: report.validation_state, success: codes(found.success), failure: codes(found.failure) };
  } finally {
    reader.free();
  }
}

// A time-stamp in `sigTst2` is a bare token (C2PA 2.4 §10.3.2.5); c2pa-ts 0.9.4 expects the whole response there, as in
// the older `sigTst`, and throws at the signature. So each token is put into a response that says "granted".
function answered(token) {
  const status = [0x30, 0x03, 0x02, 0x01, 0x00];
  const size = status.length + token.length;
  return Uint8Array.from([0x30, 0x82, size >> 8, size & 0xff, ...status, ...token]);
}

function withResponses(box) {
  for (const token of box.content?.[1]?.sigTst2?.tstTokens ?? []) token.val = answered(token.val);
  for (const child of box.contentBoxes ?? []) withResponses(child);
  return box;
}

async function byTs(content) {
  const asset = new BMFF(content);
  const jumbf = asset.getManifestJUMBF();
  if (jumbf === undefined) return { error: "no manifest" };
  const result = await ManifestStore.read(withResponses(SuperBox.fromBuffer(jumbf))).validate(asset);
  return { valid: result.isValid, codes: result.statusEntries.map((entry) => [entry.code, entry.success]) };
}

const guarded = async (judge) => {
  try {
    return await judge();
  } catch (error) {
    return { error: String(error?.message ?? error) };
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  const { path, anchors } = JSON.parse(line);
  const content = new Uint8Array(await readFile(path));
  const told = { wasm: await guarded(() => byWasm(content, anchors)), ts: await guarded(() => byTs(content)) };
  process.stdout.write(JSON.stringify(told) + "\n");
}
