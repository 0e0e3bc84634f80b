package plugd

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

const (
	processors  = 4 // at the same time, at most: more of them need more threads, and a plugin has its limits
	rlimitData  = 2 // RLIMIT_DATA, getrlimit(2)
	heapShare   = 0.75
	noLimitLeft = 1 << 40 // bytes; a limit above is none
)

// init takes the environment, and keeps the runtime within what plugd allows a plugin.
func init() {
	takeEnvironment(environment())
	if runtime.GOMAXPROCS(0) > processors {
		runtime.GOMAXPROCS(processors)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(rlimitData, &limit) == nil && limit.Cur < noLimitLeft {
		debug.SetMemoryLimit(int64(float64(limit.Cur) * heapShare)) // The collector tries harder, before it is too late.
	}
	if err := obey(os.Getenv); err != nil {
		fault("%s", err)
	}
}

// takeEnvironment makes Go's environment that of the process as it is now. In a shared object, the runtime has looked
// where it is as a program starts, and that is the one of the process that workers are forked from.
func takeEnvironment(entries []string) {
	os.Clearenv()
	for _, entry := range entries {
		if name, value, found := strings.Cut(entry, "="); found && name != "" {
			os.Setenv(name, value)
		}
	}
}

// obey does what the runtime would have done with its variables, had it seen them.
func obey(variable func(name string) string) error {
	if text := variable("GOMAXPROCS"); text != "" {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 {
			return fmt.Errorf("GOMAXPROCS is %q", text)
		}
		runtime.GOMAXPROCS(count)
	}
	if text := variable("GOGC"); text == "off" {
		debug.SetGCPercent(-1)
	} else if text != "" {
		percent, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("GOGC is %q", text)
		}
		debug.SetGCPercent(percent)
	}
	if text := variable("GOMEMLIMIT"); text == "off" {
		debug.SetMemoryLimit(math.MaxInt64)
	} else if text != "" {
		limit, err := parseBytes(text)
		if err != nil {
			return fmt.Errorf("GOMEMLIMIT is %q", text)
		}
		debug.SetMemoryLimit(limit)
	}
	if text := variable("GOTRACEBACK"); text != "" {
		debug.SetTraceback(text)
	}
	return nil
}

// parseBytes reads a number of bytes as GOMEMLIMIT has it: "200MiB".
func parseBytes(text string) (int64, error) {
	digits, unit := strings.TrimSuffix(text, "B"), int64(1)
	for power, prefix := range []string{"Ki", "Mi", "Gi", "Ti"} {
		if rest := strings.TrimSuffix(digits, prefix); rest != digits {
			digits, unit = rest, 1<<(10*(power+1))
			break
		}
	}
	number, err := strconv.ParseInt(digits, 10, 64)
	if err == nil && (number < 0 || number > math.MaxInt64/unit) {
		err = strconv.ErrRange
	}
	return number * unit, err
}

var (
	escapedMutex sync.Mutex
	escaped      error
)

// Go starts a goroutine. Should it panic, it ends, and this collection or the next fails with its message; a panic in
// any other goroutine ends the process.
func Go(function func()) {
	go func() {
		err := recovered(func() error {
			function()
			return nil
		})
		if err != nil {
			escapedMutex.Lock()
			defer escapedMutex.Unlock()
			escaped = fmt.Errorf("in a goroutine: %w", err)
		}
	}()
}

func takeEscaped() error {
	escapedMutex.Lock()
	defer escapedMutex.Unlock()
	err := escaped
	escaped = nil
	return err
}

// recovered calls a function, and returns what it panics with as its error; the whole story goes to the plugin's log.
func recovered(function func() error) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			fmt.Fprintf(os.Stderr, "panic: %v\n%s", reason, debug.Stack())
			err = fmt.Errorf("panic: %v%s", reason, place())
		}
	}()
	return function()
}

// place tells where the panic that is being recovered from was: in the plugin's own code if it is there at all.
func place() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	panicked, first := false, ""
	for {
		frame, more := frames.Next()
		where := fmt.Sprintf(" (%s:%d)", frame.File[strings.LastIndexByte(frame.File, '/')+1:], frame.Line)
		switch {
		case frame.Function == "runtime.gopanic":
			panicked = true
		case panicked && strings.HasPrefix(frame.Function, "main."):
			return where
		case panicked && first == "" && !strings.HasPrefix(frame.Function, "runtime."):
			first = where
		}
		if !more {
			return first
		}
	}
}
