package hostvm

import (
	"bufio"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"guardring/e2e/vmtest"
)

//go:embed recipe.sh
var recipe []byte

// Image is a Debian system on a disk, with its kernel and initramfs. It is never written to.
type Image struct {
	dir string
}

func (i Image) disk() string   { return filepath.Join(i.dir, "disk") }
func (i Image) kernel() string { return filepath.Join(i.dir, "kernel") }
func (i Image) initrd() string { return filepath.Join(i.dir, "initrd") }

// keep is how long an image of another recipe stays in the cache after its last use.
const keep = 14 * 24 * time.Hour

// FetchImage returns the image, from the cache (guardring/hostvm in the user's cache directory), or newly made there: that takes a
// minute or two, root, and the package mirror of this machine's own apt. An image is named by its recipe; one of two runs at once makes it, and the
// other one waits. It must be called where the mirror can be reached.
func FetchImage(ctx context.Context, log func(format string, args ...any)) (Image, error) {
	cache, err := cacheDir()
	if err != nil {
		return Image{}, err
	}
	suite, sources, err := aptSources("/etc")
	if err != nil {
		return Image{}, err
	}
	sum := sha256.Sum256(append([]byte(suite+"\n"), recipe...))
	name := hex.EncodeToString(sum[:8])
	return fetch(cache, name, func(dir string) error {
		if os.Geteuid() != 0 {
			return errors.New("an image of a Debian host is made by root only (try: make test, as root)")
		}
		log("making the image of a Debian host in %s (a minute or two, once)", cache)
		began := time.Now()
		cmd := exec.CommandContext(ctx, "sh", append([]string{"-s", dir, suite}, sources...)...)
		cmd.Stdin = strings.NewReader(string(recipe))
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("make the image of a Debian host: %w: %s (hint: make setup, as root)", err, out)
		}
		log("the image is made after %.0f s", time.Since(began).Seconds())
		return nil
	})
}

// fetch returns cache/name, which build makes whole or not at all. What has not been used for long is deleted.
func fetch(cache, name string, build func(dir string) error) (Image, error) {
	unlock, err := vmtest.LockCache(cache)
	if err != nil {
		return Image{}, err
	}
	defer unlock()
	image := Image{dir: filepath.Join(cache, name)}
	if _, err := os.Stat(image.dir); errors.Is(err, os.ErrNotExist) {
		if err := complete(cache, image.dir, build); err != nil {
			return Image{}, err
		}
	} else if err != nil {
		return Image{}, err
	}
	now := time.Now()
	if err := os.Chtimes(image.dir, now, now); err != nil {
		return Image{}, err
	}
	return image, tidy(cache, now)
}

// complete has build fill a directory, which gets its name when it is complete.
func complete(cache, name string, build func(dir string) error) error {
	tmp, err := os.MkdirTemp(cache, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := build(tmp); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// tidy deletes what nobody has used for long, and what a killed run left half made.
func tidy(cache string, now time.Time) error {
	entries, err := os.ReadDir(cache)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() {
			continue
		}
		// Whoever makes an image holds the lock, which is ours now.
		if strings.HasPrefix(e.Name(), "new-") || now.Sub(info.ModTime()) > keep {
			if err := os.RemoveAll(filepath.Join(cache, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil { // no HOME: a service
		dir = "/var/cache"
	}
	return filepath.Join(dir, "guardring", "hostvm"), nil
}

// aptSources are this system's Debian release and those of apt's files below etc that name it: other vendors' repositories have suites of their own.
func aptSources(etc string) (suite string, files []string, err error) {
	release, err := os.ReadFile(filepath.Join(etc, "os-release"))
	if err != nil {
		return "", nil, err
	}
	for line := range strings.Lines(string(release)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok {
			suite = strings.Trim(v, `"`)
		}
	}
	if suite == "" {
		return "", nil, fmt.Errorf("%s/os-release names no release of Debian", etc)
	}
	for _, pattern := range []string{"sources.list", "sources.list.d/*.list", "sources.list.d/*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "apt", pattern))
		if err != nil {
			return "", nil, err
		}
		for _, f := range found {
			if ok, err := names(f, suite); err != nil {
				return "", nil, err
			} else if ok {
				files = append(files, f)
			}
		}
	}
	if len(files) == 0 {
		return "", nil, fmt.Errorf("no file of apt below %s names the release %s", etc, suite)
	}
	return suite, files, nil
}

// names tells whether a word of the file, comments aside, is word.
func names(file, word string) (bool, error) {
	f, err := os.Open(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if l := strings.TrimSpace(lines.Text()); !strings.HasPrefix(l, "#") && slices.Contains(strings.Fields(l), word) {
			return true, nil
		}
	}
	return false, lines.Err()
}
