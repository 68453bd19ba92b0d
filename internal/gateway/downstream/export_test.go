package downstream

// Reading is how many connections are in the middle of a head.
func (s *Server) Reading() int { return s.in(inHead) }

// Idling is how many connections wait for another request.
func (s *Server) Idling() int { return s.in(idle) }

func (s *Server) in(kind phase) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if now := phase(c.phase.Load()); now > 0 && now&kinds == kind {
			n++
		}
	}
	return n
}

// Pass lets so many ticks pass.
func (s *Server) Pass(ticks int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tick.Add(ticks)
	s.wake()
}

// Open is how many connections there are.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}
