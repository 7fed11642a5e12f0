package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"filippo.io/torchwood"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/client"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// source reads the files of a log from a folder or over HTTP, by the paths of c2sp.org/tlog-tiles.
type source struct{ base string }

func (s source) remote() bool { return strings.HasPrefix(s.base, "http://") }

func (s source) read(path string) ([]byte, error) {
	if !s.remote() {
		return os.ReadFile(filepath.Join(s.base, path))
	}
	answer, err := http.Get(s.base + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, answer.Status)
	}
	return io.ReadAll(answer.Body)
}

// Height, ReadTiles and SaveTiles make a source a tlog.TileReader, which authenticates every tile that it reads.
func (s source) Height() int { return height }

func (s source) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := s.read(torchwood.TilePath(tile))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s holds %d bytes", torchwood.TilePath(tile), len(data))
		}
		found = append(found, data)
	}
	return found, nil
}

func (s source) SaveTiles([]tlog.Tile, [][]byte) {}

// checkLog verifies the checkpoint's signature, every entry bundle and every tile against its root, and its consistency
// with older heads.
func checkLog(base, vkey string, old []head) (size int64, err error) {
	// What is read is hostile; a library that panics over it has not verified it.
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("panic: %v", what)
		}
	}()
	from := source{strings.TrimSuffix(base, "/")}
	tree, err := openCheckpoint(from, vkey)
	if err != nil {
		return 0, err
	}
	stored, err := hashEntries(from, tree.N)
	if err != nil {
		return tree.N, err
	}
	if root, err := tlog.TreeHash(tree.N, stored); err != nil || root != tree.Hash {
		return tree.N, fmt.Errorf("the entries lead to %v, the checkpoint says %v (%v)", root, tree.Hash, err)
	}
	for _, tile := range tlog.NewTiles(height, 0, tree.N) {
		wanted, err := tlog.ReadTileData(tile, stored)
		if err != nil {
			return tree.N, err
		}
		if found, err := from.read(torchwood.TilePath(tile)); err != nil || !bytes.Equal(found, wanted) {
			return tree.N, fmt.Errorf("%s is not what the entries make it (%v)", torchwood.TilePath(tile), err)
		}
	}
	return tree.N, checkOld(from, tree, old)
}

func openCheckpoint(from source, vkey string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, err
	}
	signed, err := from.read("checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	checkpoint, err := torchwood.ParseCheckpoint(opened.Text)
	if err != nil {
		return tlog.Tree{}, err
	}
	if checkpoint.Origin != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("the checkpoint is of %q", checkpoint.Origin)
	}
	return checkpoint.Tree, nil
}

// hashEntries reads every entry bundle and builds all hashes of the tree from the entries alone.
func hashEntries(from source, size int64) (tlog.HashReaderFunc, error) {
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(places []int64) ([]tlog.Hash, error) {
		var hashes []tlog.Hash
		for _, place := range places {
			hashes = append(hashes, stored[place])
		}
		return hashes, nil
	})
	for first := int64(0); first < size; first += 1 << height {
		bundle := tlog.Tile{H: height, L: -1, N: first >> height, W: int(min(1<<height, size-first))}
		rest, err := from.read(torchwood.TilePath(bundle))
		if err != nil {
			return nil, err
		}
		for index := first; index < first+int64(bundle.W); index++ {
			if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
				return nil, fmt.Errorf("%s ends inside entry %d", torchwood.TilePath(bundle), index)
			}
			end := 2 + int(binary.BigEndian.Uint16(rest))
			hashes, err := tlog.StoredHashes(index, rest[2:end], reader)
			if err != nil {
				return nil, err
			}
			stored, rest = append(stored, hashes...), rest[end:]
		}
		if len(rest) > 0 {
			return nil, fmt.Errorf("%s holds %d bytes too many", torchwood.TilePath(bundle), len(rest))
		}
	}
	return reader, nil
}

// checkOld proves that older heads are beginnings of this log, from its tiles.
func checkOld(from source, tree tlog.Tree, old []head) error {
	for _, before := range old {
		root, err := hex.DecodeString(before.Root)
		if err != nil || len(root) != tlog.HashSize {
			return fmt.Errorf("%q is no root", before.Root)
		}
		if before.Size > tree.N {
			return fmt.Errorf("the log has %d entries and once had %d", tree.N, before.Size)
		}
		if before.Size == 0 {
			continue
		}
		proof, err := tlog.ProveTree(tree.N, before.Size, tlog.TileHashReader(tree, from))
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.Size, tlog.Hash(root)); err != nil {
			return fmt.Errorf("not consistent with the head at %d: %w", before.Size, err)
		}
	}
	return nil
}

// With few workers tessera v1.0.4 never returns: each one ends at the first wrong tile that it meets, and when all have
// ended, those that are still to be compared block it.
const fsckWorkers = 256

// runFsck is tessera's cmd/fsck without its user interface.
func runFsck(base, vkey string) (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("panic: %v", what)
		}
	}()
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	var files fsck.Fetcher = client.FileFetcher{Root: base}
	if (source{base}).remote() {
		at, err := url.Parse(base)
		if err != nil {
			return err
		}
		if files, err = client.NewHTTPFetcher(at, nil); err != nil {
			return err
		}
	}
	return fsck.New(verifier.Name(), verifier, files, hashBundle, fsck.Opts{N: fsckWorkers}).Check(context.Background())
}

func hashBundle(data []byte) ([][]byte, error) {
	var bundle api.EntryBundle
	if err := bundle.UnmarshalText(data); err != nil {
		return nil, err
	}
	var hashes [][]byte
	for _, entry := range bundle.Entries {
		hashes = append(hashes, rfc6962.DefaultHasher.HashLeaf(entry))
	}
	return hashes, nil
}
