//go:build race

package gateway_test

// raceDetector makes everything many times slower.
const raceDetector = true
