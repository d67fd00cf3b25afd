// Package usage is what the kernel says that processes have used: processor time, sleeps, memory, descriptors. See proc(5).
//
// Trust: the kernel's word, of processes that the test has started.
package usage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Usage is what one process has used, or several together.
type Usage struct {
	CPU time.Duration // in hundredths of a second
	// Sleeps is how often threads have waited by themselves: what they are woken from. Threads that have ended are not counted.
	Sleeps         int64
	Resident, Peak int64 // bytes in memory, and the most there have been
	Threads        int
	Descriptors    int
}

// Of is what the processes have used, together.
func Of(pids ...int) (Usage, error) {
	var sum Usage
	for _, pid := range pids {
		u, err := of(fmt.Sprintf("/proc/%d", pid))
		if err != nil {
			return Usage{}, fmt.Errorf("what process %d has used: %w", pid, err)
		}
		sum.CPU += u.CPU
		sum.Sleeps += u.Sleeps
		sum.Resident += u.Resident
		sum.Peak += u.Peak
		sum.Threads += u.Threads
		sum.Descriptors += u.Descriptors
	}
	return sum, nil
}

func of(proc string) (u Usage, err error) {
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return Usage{}, err
	}
	if u.CPU, err = cpu(string(stat)); err != nil {
		return Usage{}, err
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		return Usage{}, err
	}
	resident, err1 := Field(status, "VmRSS")
	peak, err2 := Field(status, "VmHWM")
	threads, err3 := Field(status, "Threads")
	if err := errors.Join(err1, err2, err3); err != nil {
		return Usage{}, err
	}
	u.Resident, u.Peak, u.Threads = resident<<10, peak<<10, int(threads)
	tasks, err := filepath.Glob(proc + "/task/*/status")
	if err != nil {
		return Usage{}, err
	}
	for _, task := range tasks {
		status, err := os.ReadFile(task)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return Usage{}, err
		}
		n, err := Field(status, "voluntary_ctxt_switches")
		if err != nil {
			return Usage{}, err
		}
		u.Sleeps += n
	}
	open, err := os.ReadDir(proc + "/fd")
	u.Descriptors = len(open)
	return u, err
}

// cpu reads a file like /proc/PID/stat, in which the program's name may hold anything.
func cpu(stat string) (time.Duration, error) {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 13 {
		return 0, fmt.Errorf("stat: %q", stat)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64) // fields 14 and 15 of proc(5)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / 100, errors.Join(err1, err2) // USER_HZ is 100
}

// Field is a number of a file like /proc/PID/status; what is in memory is in KiB there.
func Field(status []byte, name string) (int64, error) {
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			if f := strings.Fields(value); len(f) > 0 {
				return strconv.ParseInt(f[0], 10, 64)
			}
		}
	}
	return 0, fmt.Errorf("no number %s in %q", name, status)
}

// Family is a process with its children, whichever of its threads has started them.
func Family(pid int) ([]int, error) {
	pids := []int{pid}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	for _, file := range tasks {
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		for _, word := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
			pids = append(pids, child)
		}
	}
	return pids, nil
}
