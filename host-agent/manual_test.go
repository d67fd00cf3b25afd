package main

import (
	"testing"

	"guardring/internal/manual/manualtest"
)

func TestManual(t *testing.T) { manualtest.Check(t, manualOf(newApp())) }

func TestAdminPage(t *testing.T) { manualtest.CheckPage(t, newApp(), "../docs/ADMIN.md") }
