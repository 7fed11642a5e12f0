// logcheck verifies logs, proofs and checkpoints with libraries that are not ours: golang.org/x/mod/sumdb, tessera's fsck
// and torchwood. It reads one JSON request a line and answers each with one line, so that a thousand logs cost one start.
//
//	{"log": FOLDER or URL, "vkey": VKEY, "old": [{"size": N, "root": HEX}]}  -> {"tlog": ERROR, "fsck": ERROR, "size": N}
//	{"proof": FILE, "entry": BASE64, "policy": TEXT}                          -> {"proof": ERROR}
//	{"note": FILE, "policy": TEXT}                                            -> {"note": ERROR}
//
// An empty ERROR means that it holds.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"
	"k8s.io/klog/v2"
)

type head struct {
	Size int64  `json:"size"`
	Root string `json:"root"`
}

type request struct {
	Log    string `json:"log"`
	VKey   string `json:"vkey"`
	Old    []head `json:"old"`
	Proof  string `json:"proof"`
	Entry  []byte `json:"entry"`
	Note   string `json:"note"`
	Policy string `json:"policy"`
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	out := json.NewEncoder(os.Stdout)
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var asked request
		err := json.Unmarshal(lines.Bytes(), &asked)
		if err == nil {
			err = out.Encode(answer(asked))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "logcheck:", err)
			os.Exit(2)
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "logcheck:", err)
		os.Exit(2)
	}
}

func answer(asked request) map[string]any {
	switch {
	case asked.Proof != "":
		return map[string]any{"proof": text(checkProof(asked))}
	case asked.Note != "":
		return map[string]any{"note": text(checkNote(asked))}
	default:
		size, err := checkLog(asked.Log, asked.VKey, asked.Old)
		return map[string]any{"tlog": text(err), "size": size, "fsck": text(runFsck(asked.Log, asked.VKey))}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// checkProof holds a tlog-proof against the entry that it is said to prove, and its checkpoint against a policy.
func checkProof(asked request) error {
	policy, err := torchwood.ParsePolicy([]byte(asked.Policy))
	if err != nil {
		return err
	}
	proof, err := os.ReadFile(asked.Proof)
	if err != nil {
		return err
	}
	return torchwood.VerifyProof(policy, tlog.RecordHash(asked.Entry), proof)
}

// checkNote holds a checkpoint with its cosignatures against a policy.
func checkNote(asked request) error {
	policy, err := torchwood.ParsePolicy([]byte(asked.Policy))
	if err != nil {
		return err
	}
	signed, err := os.ReadFile(asked.Note)
	if err != nil {
		return err
	}
	_, _, err = torchwood.VerifyCheckpoint(signed, policy)
	return err
}
