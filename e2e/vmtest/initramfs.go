package vmtest

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cavaliergopher/cpio"
)

// File is a file of the guest.
type File struct {
	// Path is absolute; the folders above it are made.
	Path string
	// Source is a file of this machine, which is read; or Data is the content; or Link is a symbolic link's target; or it is a Folder.
	Source string
	Data   []byte
	Link   string
	Folder bool
	// Mode are the permissions; 0 is 0644, for a Source its own, for a folder 0755. Of the special bits only the sticky one counts.
	Mode os.FileMode
	// UID and GID are the owner.
	UID, GID int
}

// archive writes a cpio archive as the kernel unpacks it.
type archive struct {
	w    *cpio.Writer
	done map[string]bool // folders
}

// writeArchive writes files, in their order; folders that are missing are made on the way.
func writeArchive(w io.Writer, files []File) error {
	a := archive{w: cpio.NewWriter(w), done: map[string]bool{"/": true}}
	for _, f := range files {
		if err := a.parents(f.Path); err != nil {
			return err
		}
		write := a.file
		if f.Folder {
			write = a.folder
		}
		if err := write(f); err != nil {
			return fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	return a.w.Close()
}

func (a *archive) parents(name string) error {
	dir := path.Dir(path.Clean(name))
	if a.done[dir] {
		return nil
	}
	if err := a.parents(dir); err != nil {
		return err
	}
	return a.folder(File{Path: dir})
}

func (a *archive) folder(f File) error {
	a.done[path.Clean(f.Path)] = true
	mode := cpio.FileMode(f.Mode.Perm())
	if mode == 0 {
		mode = 0o755
	}
	if f.Mode&os.ModeSticky != 0 {
		mode |= cpio.ModeSticky
	}
	return a.w.WriteHeader(&cpio.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: cpio.TypeDir | mode, Uid: f.UID, Guid: f.GID, Links: 2})
}

func (a *archive) file(f File) error {
	h := &cpio.Header{Name: strings.TrimPrefix(f.Path, "/"), Uid: f.UID, Guid: f.GID, Links: 1}
	if f.Link != "" {
		h.Mode, h.Size = cpio.TypeSymlink|0o777, int64(len(f.Link))
		return a.write(h, []byte(f.Link))
	}
	data, mode := f.Data, f.Mode
	if f.Source != "" {
		b, err := os.ReadFile(f.Source)
		if err != nil {
			return err
		}
		info, err := os.Stat(f.Source)
		if err != nil {
			return err
		}
		if data = b; mode == 0 {
			mode = info.Mode().Perm()
		}
	}
	if mode == 0 {
		mode = 0o644
	}
	h.Mode, h.Size = cpio.TypeReg|cpio.FileMode(mode.Perm()), int64(len(data))
	return a.write(h, data)
}

func (a *archive) write(h *cpio.Header, data []byte) error {
	if err := a.w.WriteHeader(h); err != nil {
		return err
	}
	_, err := a.w.Write(data)
	return err
}

// libraryFolders is where Debian's linker looks.
var libraryFolders = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/lib", "/usr/lib"}

// Program is a program of this machine with the libraries that it is linked to, as files of the guest.
func Program(name string) ([]File, error) {
	var out []File
	queue, seen := []string{name}, map[string]bool{}
	for len(queue) > 0 {
		file := queue[0]
		queue = queue[1:]
		if seen[file] {
			continue
		}
		seen[file] = true
		source, err := filepath.EvalSymlinks(file)
		if err != nil {
			return nil, err
		}
		out = append(out, File{Path: file, Source: source, Mode: 0o755})
		needs, err := linkedTo(source)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		queue = append(queue, needs...)
	}
	return out, nil
}

// linkedTo is the interpreter and the libraries of an ELF file.
func linkedTo(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			b, err := io.ReadAll(p.Open())
			if err != nil {
				return nil, err
			}
			out = append(out, strings.TrimRight(string(b), "\x00"))
		}
	}
	names, err := f.ImportedLibraries()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if slices.ContainsFunc(out, func(o string) bool { return path.Base(o) == n }) {
			continue // the interpreter is a library, too
		}
		i := slices.IndexFunc(libraryFolders, func(d string) bool { _, err := os.Stat(filepath.Join(d, n)); return err == nil })
		if i < 0 {
			return nil, fmt.Errorf("library %s is in none of %v", n, libraryFolders)
		}
		out = append(out, filepath.Join(libraryFolders[i], n))
	}
	return out, nil
}
