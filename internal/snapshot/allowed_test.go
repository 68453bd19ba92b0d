package snapshot_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/engineshed/engineshed/internal/snapshot"
)

func allow(t require.TestingT, values ...string) snapshot.AllowedUpstream {
	allowed, err := snapshot.ParseAllowedUpstream(values)
	require.NoError(t, err)
	return allowed
}

func TestOnlyPublicAddressesAreDialledUnlessTheOperatorSaysSo(t *testing.T) {
	t.Parallel()
	for addr, public := range map[string]bool{
		"1.1.1.1": true, "8.8.8.8": true, "9.255.255.255": true, "11.0.0.0": true, "100.63.255.255": true, "100.128.0.0": true,
		"126.255.255.255": true, "128.0.0.1": true, "169.253.255.255": true, "169.255.0.0": true, "172.15.255.255": true,
		"172.32.0.0": true, "192.0.1.0": true, "192.0.2.1": true, "192.167.255.255": true, "192.169.0.0": true,
		"198.17.255.255": true, "198.20.0.0": true, "198.51.100.7": true, "203.0.113.7": true, "223.255.255.255": true,

		"0.0.0.0": false, "0.1.2.3": false, "10.0.0.0": false, "10.255.255.255": false, "100.64.0.0": false,
		"100.100.100.200": false, "100.127.255.255": false, "127.0.0.1": false, "127.255.255.255": false, "169.254.0.0": false,
		"169.254.169.254": false, "169.254.255.255": false, "172.16.0.0": false, "172.31.255.255": false, "192.0.0.192": false,
		"192.168.0.0": false, "192.168.255.255": false, "198.18.0.0": false, "198.19.255.255": false, "224.0.0.1": false,
		"239.255.255.255": false, "240.0.0.0": false, "255.255.255.255": false,

		"2606:4700:4700::1111": true, "2001:4860:4860::8888": true, "2001:db8::1": true, "3fff:ffff::1": true,

		"::": false, "::1": false, "::7f00:1": false, "::127.0.0.1": false, "::8.8.8.8": false, "100::1": false, "1fff::1": false,
		"4000::1": false, "5f00::1": false, "fc00::1": false, "fd00:ec2::254": false, "fdff::1": false, "fe80::1": false,
		"fe80::1%eth0": false, "2606:4700:4700::1111%eth0": false, "fec0::1": false, "ff02::1": false, "ffff::1": false,

		// An IPv4 address in the clothes of IPv6.
		"::ffff:8.8.8.8": true, "::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::ffff:169.254.169.254": false,
		"::ffff:127.0.0.1%eth0": false, "::ffff:0:127.0.0.1": false,
		"64:ff9b::8.8.8.8": true, "64:ff9b::127.0.0.1": false, "64:ff9b::10.1.2.3": false, "64:ff9b::169.254.169.254": false,
		"64:ff9b:1::8.8.8.8": false,
		"2002:808:808::1":    true, "2002:7f00:1::1": false, "2002:a00:1::": false, "2002:a9fe:a9fe::": false,
		"2001:0:808:808::f7f7:f7f7": true,  // server 8.8.8.8, client 8.8.8.8
		"2001:0:808:808::80ff:fffe": false, // client 127.0.0.1
		"2001:0:a00:1::f7f7:f7f7":   false, // server 10.0.0.1
	} {
		err := snapshot.AllowedUpstream{}.Check(netip.AddrPortFrom(netip.MustParseAddr(addr), 443))
		if public {
			require.NoError(t, err, addr)
		} else {
			require.ErrorIs(t, err, snapshot.ErrUpstreamNotAllowed, addr)
		}
	}
	require.ErrorIs(t, snapshot.AllowedUpstream{}.Check(netip.AddrPort{}), snapshot.ErrUpstreamNotAllowed, "no address")
}

func TestWhatTheOperatorOptsInIsDialledAndNothingBesideIt(t *testing.T) {
	t.Parallel()
	allowed := allow(t, "10.1.0.0/16, 127.0.0.1:8000", "[::1]:9000", "fd00:1::/32")
	for addr, permitted := range map[string]bool{
		"10.1.0.0:1": true, "10.1.255.255:65535": true, "10.0.255.255:80": false, "10.2.0.0:80": false,
		"127.0.0.1:8000": true, "127.0.0.1:8001": false, "127.0.0.2:8000": false, "[::ffff:127.0.0.1]:8000": true,
		"[::ffff:127.0.0.1]:8001": false, "[::1]:9000": true, "[::1]:8000": false, "[fd00:1:ffff::1]:80": true,
		"[fd00:2::1]:80": false, "8.8.8.8:53": true,
		"[64:ff9b::10.1.2.3]:80": true, "[64:ff9b::10.2.2.3]:80": false, "[64:ff9b::127.0.0.1]:8000": true,
		"[2002:a01:203::1]:80": true, "[2001:0:a01:203::f7f7:f7f7]:80": true, "[2001:0:a01:203::80ff:fffe]:80": false,
	} {
		err := allowed.Check(netip.MustParseAddrPort(addr))
		require.Equal(t, permitted, err == nil, "%s: %v", addr, err)
	}
	require.NoError(t, allow(t, "0.0.0.0/0").Check(netip.MustParseAddrPort("127.0.0.1:1")))
	require.Error(t, allow(t, "::/0").Check(netip.MustParseAddrPort("127.0.0.1:1")), "IPv6 is not IPv4")
	require.Error(t, allow(t, "fe80::/10").Check(netip.MustParseAddrPort("[fe80::1%eth0]:1")), "an address with a zone is another on every link")
}

func TestBadValuesOfAllowUpstreamAreAllNamed(t *testing.T) {
	t.Parallel()
	bad := []string{"10.0.0.5/8", "10.0.0.0/33", "10.0.0.5", "example.com:80", "127.0.0.1:0", "127.0.0.1:99999", "[fe80::1%eth0]:80", "::ffff:10.0.0.0/104", "fe80::%eth0/10"}
	_, err := snapshot.ParseAllowedUpstream(append([]string{"10.0.0.0/8"}, bad...))
	for _, value := range bad {
		require.ErrorContains(t, err, value)
	}
	empty, err := snapshot.ParseAllowedUpstream([]string{"", " , "})
	require.NoError(t, err)
	require.Zero(t, empty)
}

// Whatever way an IPv4 address is written into IPv6, it is judged as itself.
func TestNoSpellingOfAnAddressChangesItsJudgement(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v4 := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))
		port := rapid.Uint16Min(1).Draw(t, "port")
		bits := rapid.IntRange(0, 32).Draw(t, "bits")
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "block"))), bits).Masked()
		allowed := allow(t, block.String())
		plain := netip.AddrFrom4(v4)
		want := allowed.Check(netip.AddrPortFrom(plain, port)) == nil
		require.Equal(t, want, block.Contains(plain) || globalUnicast(plain))

		spelled := map[string][16]byte{
			"mapped":  netip.AddrFrom4(v4).As16(),
			"NAT64":   {0x00, 0x64, 0xff, 0x9b, 12: v4[0], v4[1], v4[2], v4[3]},
			"6to4":    {0x20, 0x02, v4[0], v4[1], v4[2], v4[3], 15: 1},
			"Teredo":  {0x20, 0x01, 0, 0, 8, 8, 8, 8, 12: ^v4[0], ^v4[1], ^v4[2], ^v4[3]},
			"Teredo2": {0x20, 0x01, 0, 0, v4[0], v4[1], v4[2], v4[3], 12: 0xf7, 0xf7, 0xf7, 0xf7},
		}
		for how, bytes := range spelled {
			got := allowed.Check(netip.AddrPortFrom(netip.AddrFrom16(bytes), port)) == nil
			require.Equal(t, want, got, "%s of %s", how, plain)
		}
	})
}

// globalUnicast judges an IPv4 address by the standard library and the blocks it does not know.
func globalUnicast(addr netip.Addr) bool {
	b := addr.As4()
	return addr.IsGlobalUnicast() && !addr.IsPrivate() && b[0] != 0 && b[0] < 240 && (b[0] != 100 || b[1]>>6 != 1) &&
		(b[0] != 198 || b[1]>>1 != 9) && (b[0] != 192 || b[1] != 0 || b[2] != 0)
}
