package runner

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"guardring/host-agent/report"
	"guardring/internal/coordinator"
	"guardring/internal/guardstate"
)

// TestNothingThatTheCoreKnowsIsLost: a state in which everything is set gives a document in which everything is set. A field whose
// translation is forgotten would never be shown, and nobody would notice.
func TestNothingThatTheCoreKnowsIsLost(t *testing.T) {
	var s coordinator.State
	fill(reflect.ValueOf(&s).Elem())
	s.Conflicts[0].Level, s.Conflicts[0].Over = coordinator.LevelFamily, coordinator.RelayKey(guardstate.Fingerprint{2})
	d := document(report.Self{}, s)
	// Filled in by the loop, from the regions, their pace and libvirt.
	elsewhere := []string{".Self", ".Gateways[0].Attachment", ".Gateways[0].Domain", ".Gateways[0].Fault", ".Gateways[0].Paced"}
	for _, path := range zeros(reflect.ValueOf(d), "") {
		if !slices.Contains(elsewhere, path) {
			t.Errorf("%s is not filled in", path)
		}
	}
}

// fill sets everything: numbers to 1, one element in each list.
func fill(v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		v.Set(reflect.ValueOf(time.Unix(1, 0)))
		return
	}
	if v.Type() == reflect.TypeFor[coordinator.Key]() {
		v.Set(reflect.ValueOf(coordinator.RelayKey(guardstate.Fingerprint{1})))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Array:
		fill(v.Index(0))
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	default:
		v.SetUint(1)
		if strings.HasSuffix(v.Type().Name(), "Flags") {
			v.SetUint(0xff)
		}
	}
}

// zeros names what is zero, and empty lists.
func zeros(v reflect.Value, path string) (found []string) {
	if path == ".Self" || v.IsZero() {
		return []string{path}
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			found = append(found, zeros(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	case v.Kind() == reflect.Slice && v.Len() == 0:
		return []string{path}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			found = append(found, zeros(v.Index(i), fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return found
}
