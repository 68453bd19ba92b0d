package controlplane

import (
	"context"
	"encoding/csv"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/engineshed/engineshed/internal/instance"
)

// accelerators asks nvidia-smi for this host's devices; none when there is no nvidia-smi.
func accelerators(ctx context.Context) ([]instance.Accelerator, error) {
	path, err := exec.LookPath("nvidia-smi")
	if err != nil {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--query-gpu=index,name,memory.total", "--format=csv,noheader,nounits").Output()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi is installed and fails, so the accelerators of this host are not known: %w", err)
	}
	return parseAccelerators(string(out))
}

func parseAccelerators(out string) ([]instance.Accelerator, error) {
	reader := csv.NewReader(strings.NewReader(out))
	reader.TrimLeadingSpace = true
	reader.FieldsPerRecord = 3
	records, err := reader.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read what nvidia-smi printed: %w", err)
	}
	found := make([]instance.Accelerator, len(records))
	for i, record := range records {
		index, err := strconv.Atoi(record[0])
		if err != nil {
			return nil, fmt.Errorf("read what nvidia-smi printed: %w", err)
		}
		memory, _ := strconv.Atoi(record[2]) // "[N/A]" on devices that share the host's memory
		found[i] = instance.Accelerator{Index: index, Name: record[1], MemoryMiB: memory}
	}
	return found, nil
}
