package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"guardring/guest-agent/config"
	"guardring/guest-agent/include"
	"guardring/guest-agent/runner"
	"guardring/guest-agent/torctl"
	"guardring/internal/hint"
)

// runnerTors adds to instances what the runner needs to reach them.
func runnerTors(cfg config.Config, instances []config.Instance) ([]runner.Tor, error) {
	var out []runner.Tor
	for _, in := range instances {
		password, err := readPassword(in.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("instance %s: %w", in.Name, err)
		}
		out = append(out, runner.Tor{
			Name:    in.Name,
			Role:    in.Role,
			Control: torctl.Config{Address: in.Control, CookiePath: in.Cookie, Password: password, Timeout: cfg.RequestTimeout},
			State:   in.State,
			User:    in.User,
			Site:    include.Site{Torrc: in.Torrc, Include: in.Include, Folder: in.Folder, UID: -1, GID: -1},
		})
	}
	return out, nil
}

// readPassword reads the first line of a file; "" is none.
func readPassword(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("password file: %w", err)
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("password file: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// errNoTor: there is nothing to serve.
var errNoTor = errors.New("no Tor was found on this machine")

// instancesOf lists the Tors that are to be served; none is an error.
func instancesOf(cfg config.Config) ([]config.Instance, error) {
	instances, err := cfg.Tors("/")
	if err != nil {
		return nil, err
	}
	if len(instances) == 0 {
		return nil, hint.Wrap(errNoTor, "install and start Tor, or name its control socket under instances: in the configuration")
	}
	for _, in := range instances {
		if in.Control == "" {
			return nil, hint.Wrap(fmt.Errorf("instance %s has no control socket", in.Name), "set control: in the configuration")
		}
	}
	return instances, nil
}

// pick leaves in cfg the instances of these names only; none: all.
func pick(cfg config.Config, names []string) (config.Config, error) {
	if len(names) == 0 {
		return cfg, nil
	}
	cfg.Except = nil // who names one means it
	all, err := instancesOf(cfg)
	if err != nil {
		return cfg, err
	}
	var picked []config.Instance
	var known []string
	for _, in := range all {
		known = append(known, in.Name)
		if slices.Contains(names, in.Name) {
			picked = append(picked, in)
		}
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return cfg, hint.Wrap(fmt.Errorf("there is no instance %q", name), "the Tors of this machine are: "+strings.Join(known, ", "))
		}
	}
	cfg.Instances = picked
	return cfg, nil
}
