// Checknote checks a log with code the log's authors did not write: Go's sumdb/note and sumdb/tlog.
//
// It reads JSON requests from standard input, one a line, and answers each with one JSON line:
// {"origin": …, "size": …} when everything in the request holds, {"error": …} when anything does not.
// What a request leaves out is not checked; bytes are base64.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Vkey  string // signed-note verifier key
	Note  []byte // checkpoint
	Leaf  []byte // entry, with its place and proof
	Index *int64
	Proof [][]byte

	OldSize     *int64 // an earlier head that the checkpoint must extend
	OldRoot     []byte
	Consistency [][]byte

	Tile *struct{ Level, Index, Width int } // the path of this tile is answered
}

type answer struct {
	Origin string `json:"origin,omitempty"`
	Size   int64  `json:"size"`
	Tile   string `json:"tile,omitempty"`
}

func main() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for in.More() {
		var req request
		if err := in.Decode(&req); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if ok, err := check(req); err != nil {
			out.Encode(map[string]string{"error": err.Error()})
		} else {
			out.Encode(ok)
		}
	}
}

func check(req request) (ok answer, err error) {
	if t := req.Tile; t != nil {
		path := tlog.Tile{H: 8, L: t.Level, N: int64(t.Index), W: t.Width}.Path()
		ok.Tile = strings.Replace(path, "tile/8/", "tile/", 1)
		return ok, nil
	}
	verifier, err := note.NewVerifier(req.Vkey)
	if err != nil {
		return ok, err
	}
	opened, err := note.Open(req.Note, note.VerifierList(verifier))
	if err != nil {
		return ok, err
	}
	origin, tree, err := parse(opened.Text)
	if err != nil {
		return ok, err
	}
	ok = answer{Origin: origin, Size: tree.N}
	if req.Index != nil {
		proof, err := hashes(req.Proof)
		if err != nil {
			return ok, err
		}
		leaf := tlog.RecordHash(req.Leaf)
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, *req.Index, leaf); err != nil {
			return ok, err
		}
	}
	if req.OldSize != nil {
		proof, err := hashes(append(req.Consistency, req.OldRoot))
		if err != nil {
			return ok, err
		}
		last := len(proof) - 1
		if err := tlog.CheckTree(proof[:last], tree.N, tree.Hash, *req.OldSize, proof[last]); err != nil {
			return ok, err
		}
	}
	return ok, nil
}

func parse(text string) (origin string, tree tlog.Tree, err error) {
	lines := strings.SplitN(text, "\n", 4)
	if len(lines) != 4 {
		return "", tree, errors.New("not a checkpoint")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return "", tree, err
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return "", tree, errors.New("no root hash")
	}
	copy(tree.Hash[:], root)
	return lines[0], tree, nil
}

func hashes(raw [][]byte) (list []tlog.Hash, err error) {
	for _, r := range raw {
		var h tlog.Hash
		if copy(h[:], r); !bytes.Equal(h[:], r) {
			return nil, errors.New("not a hash")
		}
		list = append(list, h)
	}
	return list, nil
}
