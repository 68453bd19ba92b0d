package process

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports for engines lie below the range that the kernel takes outgoing connections' ports from (32768 and up by
// default): an engine opens its port minutes after it was chosen, when the model is loaded.
const (
	firstPort = 18000
	lastPort  = 32767
)

// FreeAddr returns host with a port that nothing listens on now.
func FreeAddr(host string) (string, error) {
	var err error
	for range 100 {
		addr := net.JoinHostPort(host, strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort+1)))
		var listener net.Listener
		if listener, err = net.Listen("tcp", addr); err == nil {
			return addr, listener.Close()
		}
	}
	return "", fmt.Errorf("find a free port on %s: %w", host, err)
}
