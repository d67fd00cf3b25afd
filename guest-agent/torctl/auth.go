package torctl

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os/user"
	"strconv"
	"strings"
	"syscall"

	"guardring/internal/hint"
	"guardring/internal/plainfile"
	"guardring/internal/sockpath"
)

// cookieLen is the length of an authentication cookie (control-spec,
// "AUTHENTICATE").
const cookieLen = 32

// dialError says what a failed connection means.
func dialError(network, address string, err error) error {
	// As the unit and the profile have it, until they are told otherwise.
	const noNetwork = "the agent's unit and AppArmor profile give it no network: use Tor's control socket, or do what is said in systemctl cat guardring-guest"
	switch {
	case network != "unix" && (errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EAFNOSUPPORT)):
		return hint.Errorf(noNetwork, "control port %s: %w", address, err)
	case network != "unix" && errors.Is(err, syscall.ECONNREFUSED):
		return hint.Errorf("start Tor, and check ControlPort in its torrc; "+noNetwork, "control port %s: nobody listens there", address)
	case errors.Is(err, fs.ErrPermission):
		return hint.Errorf(joinGroup(address), "control socket %s: permission denied", address)
	case network == "unix" && errors.Is(err, fs.ErrNotExist):
		return hint.Errorf("start Tor, or name its control socket in the configuration", "control socket %s: %w", address, fs.ErrNotExist)
	case errors.Is(err, syscall.ECONNREFUSED):
		return hint.Errorf("start Tor, and check ControlPort or ControlSocket in its torrc", "control port %s: nobody listens there", address)
	case network == "unix" && sockpath.Check(address) != nil:
		return fmt.Errorf("control socket %s: %w", address, sockpath.Check(address))
	}
	return fmt.Errorf("control port %s: %w", address, err)
}

// joinGroup names the group that may use path.
func joinGroup(path string) string {
	var st syscall.Stat_t
	name := "debian-tor"
	if syscall.Stat(path, &st) == nil && st.Gid != 0 {
		name = strconv.Itoa(int(st.Gid))
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
	}
	return fmt.Sprintf("add the agent's user to group %s (adduser USER %s) and start the agent again", name, name)
}

// authenticate runs on a fresh connection, before the reader starts; the
// connection has a deadline.
func (c *Conn) authenticate(cfg Config) error {
	info, err := c.bine.ProtocolInfo()
	if err != nil {
		return fmt.Errorf("PROTOCOLINFO: %w", handshakeError(err))
	}
	cookiePath, owner := cfg.CookiePath, anyOwner
	if cookiePath == "" {
		cookiePath, owner = info.CookieFile, peer(c.raw)
	}
	var cookieErr error
	switch {
	case info.HasAuthMethod("NULL"):
		return c.sendAuth(nil, "")
	case info.HasAuthMethod("COOKIE") && !info.HasAuthMethod("SAFECOOKIE") && cfg.CookiePath == "":
		// Whoever listens would get the content of a file that he chose: of another Tor's cookie, say.
		cookieErr = hint.Errorf("if this is your Tor, name its cookie file in the agent's configuration (instances: cookie:)",
			"the control port wants the cookie itself and names its file: every Tor since 0.2.3 proves first that it knows it (SAFECOOKIE)")
	case info.HasAuthMethod("SAFECOOKIE") || info.HasAuthMethod("COOKIE"):
		var cookie []byte
		if cookie, cookieErr = readCookie(cookiePath, owner); cookieErr != nil {
			break
		}
		if info.HasAuthMethod("SAFECOOKIE") {
			return c.safeCookie(cookie, cookiePath)
		}
		return c.sendAuth(cookie, "the cookie in "+cookiePath)
	}
	if info.HasAuthMethod("HASHEDPASSWORD") && cfg.Password != "" {
		return c.sendAuth([]byte(cfg.Password), "the password")
	}
	if cookieErr != nil {
		return cookieErr
	}
	if info.HasAuthMethod("HASHEDPASSWORD") {
		return hint.Errorf("set the password in the agent's configuration, or CookieAuthentication 1 in torrc", "tor wants a password and none is configured")
	}
	return hint.Errorf("set CookieAuthentication 1 in torrc", "tor offers no known way to authenticate (%s)", strings.Join(info.AuthMethods, " "))
}

// anyOwner: the cookie's owner does not matter.
const anyOwner = -1

// peer is the user who listens at the other end of a unix socket, as the kernel
// knows; anyOwner if that is root, which Debian's Tor is when it begins to listen,
// or cannot be known.
func peer(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return anyOwner
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return anyOwner
	}
	owner := anyOwner
	_ = raw.Control(func(fd uintptr) {
		if cred, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil && cred.Uid != 0 {
			owner = int(cred.Uid)
		}
	})
	return owner
}

// readCookie reads a cookie file. The path may come from whoever listens at the
// control port: only a regular file of the right size is read, without waiting, and
// only his own. He could else have us prove another Tor's cookie, and pass the proof on.
func readCookie(path string, owner int) ([]byte, error) {
	if path == "" {
		return nil, errors.New("tor names no cookie file")
	}
	f, st, err := plainfile.Open(path)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, hint.Errorf(joinGroup(path)+"; CookieAuthFileGroupReadable must be 1 in torrc", "cookie %s: permission denied", path)
	case errors.Is(err, fs.ErrNotExist):
		return nil, hint.Errorf("check CookieAuthFile in torrc, or name the cookie in the agent's configuration", "cookie %s does not exist", path)
	case err != nil:
		return nil, fmt.Errorf("cookie: %w", err)
	}
	defer f.Close()
	if st.Size() != cookieLen {
		return nil, fmt.Errorf("cookie %s: not a file of %d bytes", path, cookieLen)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && owner != anyOwner && int(sys.Uid) != owner {
		return nil, hint.Errorf("if this is right, name the cookie file in the agent's configuration (instances: cookie:)",
			"cookie %s is of user %d, and user %d listens at the control port: it may be another Tor's", path, sys.Uid, owner)
	}
	cookie := make([]byte, cookieLen)
	if _, err := io.ReadFull(f, cookie); err != nil {
		return nil, fmt.Errorf("cookie %s: %w", path, err)
	}
	return cookie, nil
}

// safeCookie proves knowledge of the cookie without sending it, after the server
// has done the same (control-spec, "AUTHCHALLENGE").
func (c *Conn) safeCookie(cookie []byte, path string) error {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	resp, err := c.bine.SendRequest("%s", "AUTHCHALLENGE SAFECOOKIE "+hex.EncodeToString(nonce))
	if err != nil {
		return fmt.Errorf("AUTHCHALLENGE: %w", handshakeError(err))
	}
	var hash, serverNonce []byte
	for _, field := range strings.Fields(resp.Reply) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "SERVERHASH":
			hash, err = hex.DecodeString(value)
		case "SERVERNONCE":
			serverNonce, err = hex.DecodeString(value)
		}
		if err != nil {
			return fmt.Errorf("AUTHCHALLENGE: %s: %w", key, err)
		}
	}
	if len(hash) != sha256.Size || len(serverNonce) != 32 {
		return errors.New("AUTHCHALLENGE: no SERVERHASH or SERVERNONCE of 32 bytes in the answer")
	}
	digest := func(key string) []byte {
		m := hmac.New(sha256.New, []byte(key))
		m.Write(cookie)
		m.Write(nonce)
		m.Write(serverNonce)
		return m.Sum(nil)
	}
	if !hmac.Equal(hash, digest("Tor safe cookie authentication server-to-controller hash")) {
		return hint.Errorf("the file is of another Tor or of an earlier start: name the right cookie in the configuration, or restart Tor",
			"the cookie in %s is not the one that this control port uses", path)
	}
	return c.sendAuth(digest("Tor safe cookie authentication controller-to-server hash"), "the cookie in "+path)
}

// sendAuth sends AUTHENTICATE with secret in hexadecimal; what names it in an
// error.
func (c *Conn) sendAuth(secret []byte, what string) error {
	command := "AUTHENTICATE"
	if len(secret) > 0 {
		command += " " + hex.EncodeToString(secret)
	}
	resp, err := c.bine.SendRequest("%s", command)
	if resp != nil && resp.Err.Code == 515 {
		return hint.Errorf("check the password in the agent's configuration, or the cookie's path", "tor refused %s", what)
	}
	if err != nil {
		return fmt.Errorf("AUTHENTICATE: %w", handshakeError(err))
	}
	c.bine.Authenticated = true
	return nil
}

// handshakeError says in words what bine gives as a bare end of file.
func handshakeError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("control port closed the connection")
	}
	return err
}
