// What npm's @transmute/cose makes of our receipts: `node check.mjs FOLDER`, FOLDER being where `npm ci` installed it.
// One JSON request a line on stdin, one JSON answer a line on stdout; bytes are base64.
//
//   {"receipt", "statement", "jwk"}   -> {"root"}                    its receipt.inclusion.verify
//   {"statement", "jwk"}              -> {"payload"}                 its attached.verifier
//   {"transparent"}                   -> {"statement", "receipts"}   its receipt.remove and receipt.get
//   {"jwk"}                           -> {"thumbprint"}              its key.thumbprint
//
// A refusal is {"error"}.

import { createRequire } from "node:module";
import { resolve } from "node:path";
import { createInterface } from "node:readline";

const { attached, detached, key, receipt } = createRequire(resolve(process.argv[2], "package.json"))("@transmute/cose");

const bytes = (text) => new Uint8Array(Buffer.from(text, "base64"));
const base64 = (data) => Buffer.from(data).toString("base64");

async function answer(request) {
  const resolver = { resolve: async () => request.jwk };
  if ("receipt" in request) {
    const root = await receipt.inclusion.verify({
      entry: await receipt.leaf(bytes(request.statement)),
      receipt: bytes(request.receipt),
      verifier: detached.verifier({ resolver }),
    });
    return { root: base64(root) };
  }
  if ("statement" in request) {
    const payload = await attached.verifier({ resolver }).verify({ coseSign1: bytes(request.statement) });
    return { payload: base64(payload) };
  }
  if ("transparent" in request) {
    const statement = await receipt.remove(bytes(request.transparent));
    const receipts = await receipt.get(bytes(request.transparent));
    return { statement: base64(statement), receipts: receipts.map(base64) };
  }
  const coseKey = await key.convertJsonWebKeyToCoseKey(request.jwk);
  return { thumbprint: base64(await key.thumbprint.calculateCoseKeyThumbprint(coseKey)) };
}

for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = await answer(JSON.parse(line));
  } catch (error) {
    told = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(told) + "\n");
}
