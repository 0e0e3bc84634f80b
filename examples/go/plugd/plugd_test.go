package plugd

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// forget undoes all declarations, before a test and after it.
func forget(t *testing.T) {
	reset := func() {
		registered, exec, faults = nil, nil, nil
		metrics, options, settings, commands = nil, nil, nil, nil
	}
	reset()
	t.Cleanup(reset)
}

type bare struct{}

func (bare) Name() string { return "bare" }
func (bare) Desc() string { return "Has nothing." }

type wrong struct{ bare }

func (wrong) Collect() error             { return nil }
func (wrong) SaveState() ([]byte, error) { return nil, nil }
func (*wrong) Open() error               { return nil }

func TestMethodsThatNobodyWouldCallAreFaults(t *testing.T) {
	forget(t)
	Register(wrong{})
	Register(bare{})
	wanted := []string{
		"Collect is func() error; it has to be func(*plugd.Samples) error",
		"Open is a method of *plugd.wrong: register a pointer",
		"plugd.Stateful has 2 methods, and the plugin has 1 of them",
		"Register is called twice: a shared object holds one plugin",
	}
	if !reflect.DeepEqual(faults, wanted) {
		t.Errorf("%s", strings.Join(faults, "\n"))
	}
}

func TestCommandsThatCannotBeCalledAreFaults(t *testing.T) {
	forget(t)
	Command("number", "", 7)
	Command("many", "", func(...int) {}, "all")
	Command("unnamed", "", func(int) {})
	Command("three", "", func() (int, int, int) { return 1, 2, 3 })
	Command("good", "", func(int) (int, error) { return 1, nil }, "a").Default("b", 1)
	wanted := []string{
		`command "number": a function is needed, not int`,
		`command "many": a function with any number of parameters cannot be declared`,
		`command "unnamed": its function has 1 parameters, named are 0`,
		`command "three": its function must return nothing, a value, an error, or a value and an error`,
		`command "good": no parameter "b"`,
	}
	if !reflect.DeepEqual(faults, wanted) {
		t.Errorf("%s", strings.Join(faults, "\n"))
	}
}

func TestValuesComeBackAsTheyWent(t *testing.T) {
	type row struct{ A, B int }
	for _, each := range []interface{}{
		true, false, 7, int8(-8), uint16(9), 1.5, float32(0.25), "text", "", []string{"a", "b"}, map[string]int{"x": 1},
		row{1, 2}, []byte("bytes"),
	} {
		kind := reflect.TypeOf(each)
		encoded, err := encodeAs(kind, each)
		if err != nil {
			t.Fatal(err)
		}
		if decoded, err := decode(encoded, kind); err != nil || !reflect.DeepEqual(decoded.Interface(), each) {
			t.Errorf("%#v became %#v (%v)", each, decoded, err)
		}
	}
}

func TestWhatDoesNotFitIsRefused(t *testing.T) {
	for kind, given := range map[reflect.Type]int64{reflect.TypeOf(int8(0)): 128, reflect.TypeOf(uint(0)): -1} {
		if _, err := decode(value{kind: typeInt, integer: given}, kind); !errors.As(err, &refusal{}) {
			t.Errorf("%d as %s: %v", given, kind, err)
		}
	}
	if _, err := encode(uint64(1 << 63)); err == nil {
		t.Error("beyond 64 bits with a sign, and taken")
	}
}

func TestASettingThatIsRefusedKeepsItsValue(t *testing.T) {
	forget(t)
	level := 3
	setting := Setting("level", "", &level).OnSet(func() error {
		if level > 5 {
			return errors.New("too high")
		}
		return nil
	})
	if err := setting.set(reflect.ValueOf(9)); !errors.As(err, &refusal{}) || level != 3 {
		t.Errorf("%v, level %d", err, level)
	}
	if err := setting.set(reflect.ValueOf(4)); err != nil || level != 4 {
		t.Errorf("%v, level %d", err, level)
	}
}

func TestAPanicIsAnErrorThatTellsWhere(t *testing.T) {
	err := recovered(func() error { panic("out of cheese") })
	if err == nil || !strings.HasPrefix(err.Error(), "panic: out of cheese (plugd_test.go:") {
		t.Errorf("%v", err)
	}
}

func TestASeriesIsAskedForOnceAsLongAsItIsUsed(t *testing.T) {
	forget(t)
	metric, asked, turns := Gauge("a", "1", "", "n"), 0, Samples{}
	collect := func(labels ...string) error {
		turns.next()
		for _, label := range labels {
			turns.Add(metric, 1, label)
		}
		return turns.identify(func(series *Series) (uint32, error) {
			asked++
			return uint32(asked), nil
		})
	}
	for turn := 0; turn < 10*forgetAfter; turn++ {
		if err := collect("1", "2"); err != nil {
			t.Fatal(err)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times for 2 series", asked)
	}
	for turn := 0; turn < 3*forgetAfter; turn++ {
		if err := collect(fmt.Sprint("new", turn)); err != nil {
			t.Fatal(err)
		}
	}
	if kept := len(metric.byLabels); kept > 2*forgetAfter {
		t.Errorf("%d series are kept", kept)
	}
	before := asked
	if err := collect("1", "2"); err != nil || asked != before+2 {
		t.Errorf("asked %d times again for 2 series that plugd may have forgotten (%v)", asked-before, err)
	}
	if err := collect(); err != nil || turns.identify(nil) != nil {
		t.Errorf("nothing to ask for: %v", err)
	}
	turns.AddTo(metric.Series(), 1)
	if err := turns.identify(nil); err == nil || err.Error() != "a sample of a has 0 labels; declared are 1: n" {
		t.Errorf("%v", err)
	}
}

func TestBytesAreReadAsTheRuntimeReadsThem(t *testing.T) {
	for text, wanted := range map[string]int64{"7": 7, "7B": 7, "2KiB": 2048, "200MiB": 200 << 20, "1TiB": 1 << 40} {
		if number, err := parseBytes(text); err != nil || number != wanted {
			t.Errorf("%s is %d (%v)", text, number, err)
		}
	}
	for _, text := range []string{"", "B", "2MB", "-1", "1.5GiB", "99999999TiB"} {
		if number, err := parseBytes(text); err == nil {
			t.Errorf("%q is %d", text, number)
		}
	}
}

func TestVariablesThatTheRuntimeDoesNotUnderstandAreTold(t *testing.T) {
	for name, text := range map[string]string{"GOMAXPROCS": "many", "GOGC": "often", "GOMEMLIMIT": "1GB"} {
		err := obey(func(asked string) string {
			if asked == name {
				return text
			}
			return ""
		})
		if wanted := fmt.Sprintf("%s is %q", name, text); err == nil || err.Error() != wanted {
			t.Errorf("%v", err)
		}
	}
}
