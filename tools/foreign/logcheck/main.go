// logcheck verifies logs, proofs and checkpoints with libraries that are not ours: golang.org/x/mod/sumdb, tessera's fsck,
// torchwood and transparency-dev/formats. It reads one JSON request a line and answers each with one line, so that a thousand logs cost one start.
//
//	{"log": FOLDER or URL, "vkey": VKEY, "old": [{"size": N, "root": HEX}]}  -> {"tlog": ERROR, "fsck": ERROR, "size": N}
//	{"proof": FILE, "entry": BASE64, "policy": TEXT}                          -> {"proof": ERROR}
//	{"note": FILE, "policy": TEXT}                                            -> {"note": ERROR}
//	{"note": FILE, "cosigner": VKEY}    a cosignature of type 4 or 6           -> {"note": ERROR}
//	{"note": FILE, "cosign": NAME}      by a new ML-DSA-44 key of that name    -> {"note": ERROR, "cosigned": TEXT, "vkey": VKEY}
//
// An empty ERROR means that it holds.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/torchwood"
	f_note "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
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

	Cosigner string `json:"cosigner"`
	Cosign   string `json:"cosign"`
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
	case asked.Cosign != "":
		cosigned, vkey, err := cosign(asked)
		return map[string]any{"note": text(err), "cosigned": string(cosigned), "vkey": vkey}
	case asked.Cosigner != "":
		return map[string]any{"note": text(checkCosignature(asked))}
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

// checkCosignature holds one cosignature of a checkpoint against its key.
func checkCosignature(asked request) error {
	cosigner, err := f_note.NewVerifierForCosignatureV1(asked.Cosigner)
	if err != nil {
		return err
	}
	signed, err := os.ReadFile(asked.Note)
	if err != nil {
		return err
	}
	_, err = note.Open(signed, note.VerifierList(cosigner))
	return err
}

// cosign adds the cosignature of a new ML-DSA-44 key to a checkpoint.
func cosign(asked request) ([]byte, string, error) {
	skey, vkey, err := f_note.GenerateMLDSAKey(asked.Cosign)
	if err != nil {
		return nil, "", err
	}
	signer, err := f_note.NewSignerForCosignatureV1(skey)
	if err != nil {
		return nil, "", err
	}
	signed, err := os.ReadFile(asked.Note)
	if err != nil {
		return nil, "", err
	}
	unverified := &note.UnverifiedNoteError{}
	if _, err := note.Open(signed, note.VerifierList()); !errors.As(err, &unverified) {
		return nil, "", err
	}
	cosigned, err := note.Sign(unverified.Note, signer)
	return cosigned, vkey, err
}
