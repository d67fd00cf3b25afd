package main

import (
	"path/filepath"
	"testing"

	"guardring/host-agent/config"
)

// TestTheProfilesHaveTheConfigurationsDefaults: what a package ships fits a host that
// has configured nothing.
func TestTheProfilesHaveTheConfigurationsDefaults(t *testing.T) {
	cfg := config.Default()
	cfg.GatewaysDir = filepath.Join(filepath.Dir(config.DefaultPath), cfg.GatewaysDir) // as Load does
	if text, err := tunables("", cfg); text != "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	cfg.GatewaysDir = "/srv/gateways"
	if text, err := tunables("", cfg); text == "" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
}
