// tesseralog appends entries to a log of tessera's POSIX driver, as fast as it goes, and says how fast that was. With a
// witness policy every checkpoint is cosigned before it is published: a log that is not ours, for a witness that is.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"
)

var (
	dir     = flag.String("dir", "", "folder of the log; its keys lie beside it as FOLDER.key and FOLDER.vkey")
	name    = flag.String("name", "tessera.example/log", "the log's name, when it is new")
	count   = flag.Int("count", 1000, "entries to append")
	size    = flag.Int("size", 120, "bytes of an entry")
	batch   = flag.Uint("batch", 4096, "entries of a batch")
	age     = flag.Duration("age", 100*time.Millisecond, "the longest that an entry waits for its batch")
	window  = flag.Int("window", 0, "entries under way at once; 0: four batches")
	policy  = flag.String("policy", "", "file with the witness policy (c2sp.org/tlog-policy as tessera reads it)")
	timeout = flag.Duration("timeout", 60*time.Second, "the longest that a witness may take")
)

func main() {
	flag.Parse()
	// Its errors still go to stderr.
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	said, err := run(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "tesseralog:", err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context) (map[string]any, error) {
	signer, vkey, err := keys()
	if err != nil {
		return nil, err
	}
	driver, err := posix.New(ctx, posix.Config{Path: *dir})
	if err != nil {
		return nil, err
	}
	options := tessera.NewAppendOptions().WithCheckpointSigner(signer).WithBatching(*batch, *age).
		WithCheckpointInterval(100 * time.Millisecond)
	if *policy != "" {
		text, err := os.ReadFile(*policy)
		if err != nil {
			return nil, err
		}
		group, err := tessera.NewWitnessGroupFromPolicy(text)
		if err != nil {
			return nil, err
		}
		options = options.WithWitnesses(group, &tessera.WitnessOptions{Timeout: *timeout})
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, options)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	last, err := appendAll(ctx, appender)
	if err != nil {
		return nil, err
	}
	durable := time.Since(began)
	if *count > 0 {
		await := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
		done := func() (tessera.Index, error) { return last, nil }
		if _, _, err := await.Await(ctx, done); err != nil {
			return nil, err
		}
	}
	published := time.Since(began)
	if err := shutdown(ctx); err != nil {
		return nil, err
	}
	return map[string]any{
		"vkey": vkey, "entries": *count, "entry_bytes": *size, "batch": *batch, "threads": runtime.GOMAXPROCS(0),
		"durable_s": durable.Seconds(), "published_s": published.Seconds(),
		"entries_per_s": float64(*count) / durable.Seconds(),
	}, nil
}

// appendAll returns when every entry is on disk and part of the tree.
func appendAll(ctx context.Context, to *tessera.Appender) (tessera.Index, error) {
	wide := *window
	if wide == 0 {
		wide = 4 * int(*batch)
	}
	// Payloads are made before they are needed, from one random block: what is measured is the log.
	block := make([]byte, *size+*count)
	if _, err := rand.Read(block); err != nil {
		return tessera.Index{}, err
	}
	waiting := make(chan tessera.IndexFuture, wide)
	failed := make(chan error, 1)
	var last tessera.Index
	go func() {
		var err error
		for future := range waiting {
			if err == nil {
				last, err = future()
			}
		}
		failed <- err
	}()
	for i := range *count {
		waiting <- to.Add(ctx, tessera.NewEntry(block[i:i+*size:i+*size]))
	}
	close(waiting)
	return last, <-failed
}

// keys reads the log's key pair, or makes it.
func keys() (note.Signer, string, error) {
	secret, public := filepath.Clean(*dir)+".key", filepath.Clean(*dir)+".vkey"
	if _, err := os.Stat(secret); os.IsNotExist(err) {
		skey, vkey, err := note.GenerateKey(rand.Reader, *name)
		if err != nil {
			return nil, "", err
		}
		if err := os.WriteFile(public, []byte(vkey), 0o644); err != nil {
			return nil, "", err
		}
		if err := os.WriteFile(secret, []byte(skey), 0o600); err != nil {
			return nil, "", err
		}
	}
	skey, err := os.ReadFile(secret)
	if err != nil {
		return nil, "", err
	}
	vkey, err := os.ReadFile(public)
	if err != nil {
		return nil, "", err
	}
	signer, err := note.NewSigner(string(skey))
	return signer, string(vkey), err
}
