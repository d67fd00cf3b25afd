package tornet

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// keysMaxAge is the age at which cached keys are made anew; the authorities' certificates live for 12 months.
const keysMaxAge = 120 * 24 * time.Hour

// identity is what the rest of the network must know of a node before it runs.
type identity struct {
	dir         string // holds keys/
	fingerprint string // of the relay identity, 40 upper-case hex digits
	v3ident     string // authorities only: the fingerprint of the authority certificate
}

// identities returns the keys of all nodes from the cache, making what is missing. Several processes may do so at once:
// a node's directory appears whole by rename, and the first one stays.
func identities(ctx context.Context, cache string, names []string, authority func(string) bool) (map[string]identity, error) {
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return nil, err
	}
	out := make(map[string]identity, len(names))
	var (
		mu   sync.Mutex
		wg   sync.WaitGroup
		errs []error
	)
	slots := make(chan struct{}, 2)
	for _, name := range names {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			id, err := nodeIdentity(ctx, filepath.Join(cache, name), authority(name))
			mu.Lock()
			defer mu.Unlock()
			out[name] = id
			if err != nil {
				errs = append(errs, fmt.Errorf("keys of %s: %w", name, err))
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

func nodeIdentity(ctx context.Context, dir string, authority bool) (identity, error) {
	if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) < keysMaxAge {
		return readIdentity(dir, authority)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return identity{}, err
	}
	defer os.RemoveAll(tmp)
	if err := makeIdentity(ctx, tmp, authority); err != nil {
		return identity{}, err
	}
	if st, err := os.Stat(dir); err == nil && time.Since(st.ModTime()) >= keysMaxAge {
		if err := os.RemoveAll(dir); err != nil {
			return identity{}, err
		}
	}
	if err := os.Rename(tmp, dir); err != nil && !errors.Is(err, fs.ErrExist) {
		return identity{}, err
	}
	return readIdentity(dir, authority)
}

func makeIdentity(ctx context.Context, dir string, authority bool) error {
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		return err
	}
	if authority {
		cmd := exec.CommandContext(ctx, "tor-gencert", "--create-identity-key", "--passphrase-fd", "0", "-m", "12",
			"-i", filepath.Join(keys, "authority_identity_key"), "-s", filepath.Join(keys, "authority_signing_key"),
			"-c", filepath.Join(keys, "authority_certificate"))
		cmd.Stdin = strings.NewReader("loopback-only\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("tor-gencert: %w: %s", err, out)
		}
	}
	torrc := filepath.Join(dir, "torrc") // tor refuses /dev/null here
	if err := os.WriteFile(torrc, nil, 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "tor", "--list-fingerprint", "--defaults-torrc", "/dev/null", "-f", torrc,
		"--DataDirectory", dir, "--ORPort", "127.0.0.1:9", "--Nickname", "unnamed", "--Log", "err stderr")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("tor --list-fingerprint: %w: %s", err, out)
	}
	return nil
}

var (
	certFingerprint  = regexp.MustCompile(`(?m)^fingerprint ([0-9A-F]{40})$`)
	relayFingerprint = regexp.MustCompile(`(?m)^\S+ ([0-9A-F]{40})$`)
)

func readIdentity(dir string, authority bool) (identity, error) {
	id := identity{dir: dir}
	b, err := os.ReadFile(filepath.Join(dir, "fingerprint"))
	if err != nil {
		return identity{}, fmt.Errorf("%w (hint: delete %s, it is made anew)", err, dir)
	}
	m := relayFingerprint.FindSubmatch(b)
	if m == nil {
		return identity{}, fmt.Errorf("no fingerprint in %s/fingerprint (hint: delete the directory, it is made anew)", dir)
	}
	id.fingerprint = string(m[1])
	if !authority {
		return id, nil
	}
	b, err = os.ReadFile(filepath.Join(dir, "keys", "authority_certificate"))
	if err != nil {
		return identity{}, err
	}
	m = certFingerprint.FindSubmatch(b)
	if m == nil {
		return identity{}, fmt.Errorf("no fingerprint in %s's authority certificate", dir)
	}
	if p, _ := pem.Decode(b[strings.Index(string(b), "-----BEGIN"):]); p == nil {
		return identity{}, fmt.Errorf("%s's authority certificate is damaged", dir)
	}
	id.v3ident = string(m[1])
	return id, nil
}

// install copies the keys into a node's data directory.
func (id identity) install(dataDir string) error {
	keys := filepath.Join(dataDir, "keys")
	if err := os.MkdirAll(keys, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(filepath.Join(id.dir, "keys"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(id.dir, "keys", e.Name()))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(keys, e.Name()), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
