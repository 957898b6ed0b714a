package command_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"bitbucket.org/uwpatio/voltadomar/internal/command"
)

// with is the defaults from node1 to example.com, changed by f.
func with(f func(s *command.Spec)) command.Spec {
	s := command.Defaults()
	s.Source, s.Target = "node1", "example.com"
	if f != nil {
		f(&s)
	}
	return s
}

func TestDefaultsAreThoseOfTraceroute(t *testing.T) {
	require.Equal(t, command.Spec{
		Prober: "udp", FirstTTL: 1, MaxTTL: 30, Queries: 3, SimQueries: 16,
		WaitMax: 5 * time.Second, WaitHere: 3, WaitNear: 10, Flows: 1,
	}, command.Defaults())
}

func TestOptions(t *testing.T) {
	type edit = func(s *command.Spec)
	waits := func(most time.Duration, here, near float64) edit {
		return func(s *command.Spec) { s.WaitMax, s.WaitHere, s.WaitNear = most, here, near }
	}
	for _, c := range []struct {
		options string
		want    edit
	}{
		{"", nil},
		{"-m 1", func(s *command.Spec) { s.MaxTTL = 1 }},
		{"-m255", func(s *command.Spec) { s.MaxTTL = 255 }},
		{"-m=7", func(s *command.Spec) { s.MaxTTL = 7 }},
		{"--max-hops 7", func(s *command.Spec) { s.MaxTTL = 7 }},
		{"--max-hops=7", func(s *command.Spec) { s.MaxTTL = 7 }},
		{"--max-ttls 7", func(s *command.Spec) { s.MaxTTL = 7 }},
		{"-m 7 -m 8", func(s *command.Spec) { s.MaxTTL = 8 }},
		{"-m 010", func(s *command.Spec) { s.MaxTTL = 10 }},
		{"-q 1", func(s *command.Spec) { s.Queries = 1 }},
		{"--queries=10", func(s *command.Spec) { s.Queries = 10 }},
		{"--nqueries 5", func(s *command.Spec) { s.Queries = 5 }},
		{"-w 2", waits(2*time.Second, 0, 0)},
		{"--wait=0.001", waits(time.Millisecond, 0, 0)},
		{"--waittime 3600", waits(time.Hour, 0, 0)},
		{"-w 2.5,4", waits(2500*time.Millisecond, 4, 0)},
		{"-w 2,4.25,1000", waits(2*time.Second, 4.25, 1000)},
		{"-w 2/4/8", waits(2*time.Second, 4, 8)},
		{"-w 5,3,10", nil},
		{"-w 1,-0,-0", waits(time.Second, 0, 0)},
		{"-t 0", nil},
		{"-t 1", nil},
		{"-t 2", func(s *command.Spec) { s.TOS = 2 }},
		{"-t 16", func(s *command.Spec) { s.TOS = 16 }},
		{"--tos 255", func(s *command.Spec) { s.TOS = 255 }},
		{"-t 0x01", func(s *command.Spec) { s.TOS = 1 }},
		{"-t 0X2E", func(s *command.Spec) { s.TOS = 46 }},
		{"-I", func(s *command.Spec) { s.Prober = "icmp" }},
		{"--icmp", func(s *command.Spec) { s.Prober = "icmp" }},
		{"-I -I", func(s *command.Spec) { s.Prober = "icmp" }},
		{"-T", func(s *command.Spec) { s.Prober = "tcp" }},
		{"--tcp -p 443", func(s *command.Spec) { s.Prober, s.Port = "tcp", 443 }},
		{"-U", func(s *command.Spec) { s.Port = 53 }},
		{"--udp", func(s *command.Spec) { s.Port = 53 }},
		{"-U -p 123", func(s *command.Spec) { s.Port = 123 }},
		{"-p 123 -U", func(s *command.Spec) { s.Port = 123 }},
		{"-p 1", func(s *command.Spec) { s.Port = 1 }},
		{"--port 65535", func(s *command.Spec) { s.Port = 65535 }},
		{"-f 30", func(s *command.Spec) { s.FirstTTL = 30 }},
		{"--first=4", func(s *command.Spec) { s.FirstTTL = 4 }},
		{"-f 200 -m 201", func(s *command.Spec) { s.FirstTTL, s.MaxTTL = 200, 201 }},
		{"-n", func(s *command.Spec) { s.Numeric = true }},
		{"-N 1", func(s *command.Spec) { s.SimQueries = 1 }},
		{"--sim-queries 2550", func(s *command.Spec) { s.SimQueries = 2550 }},
		{"-z 0.5", func(s *command.Spec) { s.Interval = 500 * time.Millisecond }},
		{"-z 10", func(s *command.Spec) { s.Interval = 10 * time.Second }},
		{"-z 10.5", func(s *command.Spec) { s.Interval = 10500 * time.Microsecond }},
		{"--sendwait=60000", func(s *command.Spec) { s.Interval = time.Minute }},
		{"-z 0", nil},
		{"-F", func(s *command.Spec) { s.DontFragment = true }},
		{"--dont-fragment", func(s *command.Spec) { s.DontFragment = true }},
		{"-4", func(s *command.Spec) { s.Family = 4 }},
		{"-6", func(s *command.Spec) { s.Family = 6 }},
		{"--flows 3", func(s *command.Spec) { s.Flows = 3 }},
		{"--classic", func(s *command.Spec) { s.Classic = true }},
		{"--classic --flows 1", func(s *command.Spec) { s.Classic = true }},
		{"-P dns", func(s *command.Spec) { s.Prober = "dns" }},
		{"-Pdns-2", func(s *command.Spec) { s.Prober = "dns-2" }},
		{"--prober=dns -p 5353 --classic", func(s *command.Spec) { s.Prober, s.Port, s.Classic = "dns", 5353, true }},
		{"--prober dns --flows 2 -f 4", func(s *command.Spec) { s.Prober, s.Flows, s.FirstTTL = "dns", 2, 4 }},
		{"-M dns", func(s *command.Spec) { s.Prober = "dns" }},
		{"--module=dns", func(s *command.Spec) { s.Prober = "dns" }},
		{"-P udp", nil},
		{"-P icmp", func(s *command.Spec) { s.Prober = "icmp" }},
		{"-P dns -P ntp", func(s *command.Spec) { s.Prober = "ntp" }},
		{"-o a=b -P dns", func(s *command.Spec) { s.Prober, s.Options = "dns", map[string]string{"a": "b"} }},
		{"-P dns -o a=b=c --option x-1= -O 'y= z\"' --options a=d --option=w=-1", func(s *command.Spec) {
			s.Prober, s.Options = "dns", map[string]string{"a": "d", "x-1": "", "y": ` z"`, "w": "-1"}
		}},
		{"28", func(s *command.Spec) { s.Size = 28 }},
		{"65000", func(s *command.Spec) { s.Size = 65000 }},
		{"-I 100", func(s *command.Spec) { s.Prober, s.Size = "icmp", 100 }},
		{"-nFIm 5 -q2 100 -6", func(s *command.Spec) {
			s.Numeric, s.DontFragment, s.Prober, s.MaxTTL, s.Queries, s.Size, s.Family = true, true, "icmp", 5, 2, 100, 6
		}},
		{"-n -- 100", func(s *command.Spec) { s.Numeric, s.Size = true, 100 }},
	} {
		t.Run(c.options, func(t *testing.T) {
			got, err := command.Parse("volta node1 example.com " + c.options)
			require.NoError(t, err)
			require.Equal(t, with(c.want), got)
			if !strings.Contains(c.options, "00") && !strings.Contains(c.options, "28") { // no packet length
				got, err = command.Parse("volta " + c.options + " node1 example.com")
				require.NoError(t, err, "options first")
				require.Equal(t, with(c.want), got)
			}
		})
	}
}

func TestWordsOfALine(t *testing.T) {
	for _, line := range []string{
		"volta node1 example.com",
		"  volta\t'node1'   \"example.com\" \r\n",
		`volta node\1 exam"ple".com`,
		"volta node1 \\\nexample.com",
		"volta -- node1 example.com",
	} {
		got, err := command.Parse(line)
		require.NoError(t, err, "%q", line)
		require.Equal(t, with(nil), got)
	}
}

func TestSourcesAndTargets(t *testing.T) {
	for _, c := range [][2]string{
		{"a", "192.0.2.1"},
		{strings.Repeat("a", 64), strings.Repeat("b", 253)},
		{"NYC-01.eu_west", "2001:db8::1"},
		{"-a", "fe80::1%eth0"},
		{"volta", "münchen.example"},
		{"-", "1"},
	} {
		got, err := command.ParseArgs([]string{"--", c[0], c[1]})
		require.NoError(t, err)
		require.Equal(t, c[0], got.Source)
		require.Equal(t, c[1], got.Target)
	}
}

func TestErrors(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, c := range []struct{ line, want string }{
		{"", "the command is empty; it must be volta <source> <destination> [options] [packetlen]"},
		{" \t\n", "the command is empty; it must be volta <source> <destination> [options] [packetlen]"},
		{"ping a b", "command ping: it must begin with volta: volta <source> <destination> [options] [packetlen]"},
		{"'' a b", "command '': it must begin with volta: volta <source> <destination> [options] [packetlen]"},
		{"voltaa b", "command voltaa: it must begin with volta: volta <source> <destination> [options] [packetlen]"},
		{"volta", "source and destination are missing; a command is volta <source> <destination> [options] [packetlen]"},
		{"volta -n", "source and destination are missing; a command is volta <source> <destination> [options] [packetlen]"},
		{"volta a", "the destination is missing after the source a; a command is volta <source> <destination> [options] [packetlen]"},
		{"volta a b 100 7", "operand 7: one too many; a command is volta <source> <destination> [options] [packetlen]"},
		{"volta a 'b", "the command has a single quote (') without its partner"},
		{`volta a "b`, `the command has a double quote (") without its partner`},
		{`volta a b\`, `the command ends in a backslash (\) that quotes nothing`},
		{"volta a \xff", "the command is not valid UTF-8"},
		{"volta a b\x00", `"b\x00" holds the character U+0000; only printable ones are allowed`},
		{"volta a\x1b[2J b", `"a\x1b[2J" holds the character U+001B; only printable ones are allowed`},
		{"volta a 'b\nc'", `"b\nc" holds the character U+000A; only printable ones are allowed`},
		{"volta a b\u202ec", `"b\u202ec" holds the character U+202E; only printable ones are allowed`},
		{"volta " + strings.Repeat("a", 1<<20), "the command has 1048582 bytes, it must have at most 4096"},

		{"volta '' b", "source '': an agent's id must be 1 to 64 letters, digits, '.', '_' or '-'"},
		{"volta a/b b", "source a/b: an agent's id must be 1 to 64 letters, digits, '.', '_' or '-'"},
		{"volta ä b", "source ä: an agent's id must be 1 to 64 letters, digits, '.', '_' or '-'"},
		{"volta " + long + " b", "source " + long[:64] + "...: an agent's id must be 1 to 64 letters, digits, '.', '_' or '-'"},
		{"volta a ''", "destination '': a host name or address must have 1 to 253 bytes, this has 0"},
		{"volta a " + strings.Repeat("b", 254), "destination " + strings.Repeat("b", 64) + "...: a host name or address must have 1 to 253 bytes, this has 254"},
		{"volta a 'b c'", "destination b c: a host name or address cannot hold spaces or control characters"},
		{"volta -- a -b", "destination -b: a host name or address cannot begin with '-'"},

		{"volta a b -m 0", "-m 0: max hops must be 1 to 255"},
		{"volta a b -m 256", "-m 256: max hops must be 1 to 255"},
		{"volta a b -m 300", "-m 300: max hops must be 1 to 255"},
		{"volta a b --max-hops 300", "-m 300: max hops must be 1 to 255"},
		{"volta a b -m -1", "-m -1: max hops must be 1 to 255"},
		{"volta a b -m x", "-m x: max hops must be 1 to 255"},
		{"volta a b -m 1.5", "-m 1.5: max hops must be 1 to 255"},
		{"volta a b -m 0x10", "-m 0x10: max hops must be 1 to 255"},
		{"volta a b -m ''", "-m '': max hops must be 1 to 255"},
		{"volta a b --max-hops=", "-m '': max hops must be 1 to 255"},
		{"volta a b -m 99999999999999999999", "-m 99999999999999999999: max hops must be 1 to 255"},
		{"volta a b -m " + long, "-m " + long[:64] + "...: max hops must be 1 to 255"},
		{"volta a b -m", "-m: the option needs a value"},
		{"volta a b --max-hops", "--max-hops: the option needs a value"},
		{"volta a b -P DNS", "-P DNS: a kind of probe is called by 1 to 32 lower-case letters, digits or '-', a letter first"},
		{"volta a b -P 132", "-P 132: a kind of probe is called by 1 to 32 lower-case letters, digits or '-', a letter first"},
		{"volta a b -P " + long, "-P " + long[:64] + "...: a kind of probe is called by 1 to 32 lower-case letters, digits or '-', a letter first"},
		{"volta a b -P ''", `prober: must be "udp", "icmp", "tcp", or another one that the agent has`},
		{"volta a b -P", "-P: the option needs a value"},
		{"volta a b -o", "-o: the option needs a value"},
		{"volta a b -O", "-O: the option needs a value"},
		{"volta a b -o x", "-o x: it must be NAME=VALUE"},
		{"volta a b -o ''", "-o '': it must be NAME=VALUE"},
		{"volta a b -o =x", "-o =x: it must be NAME=VALUE, with a name of 1 to 32 lower-case letters, digits or '-', a letter first"},
		{"volta a b -o A=x", "-o A=x: it must be NAME=VALUE, with a name of 1 to 32 lower-case letters, digits or '-', a letter first"},
		{"volta a b -o a=" + strings.Repeat("x", 256), "-o a=" + strings.Repeat("x", 62) + "...: a value must have at most 255 bytes, this has 256"},
		{"volta a b -q 0", "-q 0: queries must be 1 to 10"},
		{"volta a b -q 1000", "-q 1000: queries must be 1 to 10"},
		{"volta a b -N 0", "-N 0: simultaneous queries must be 1 to 2550"},
		{"volta a b -N 2551", "-N 2551: simultaneous queries must be 1 to 2550"},
		{"volta a b -f 0", "-f 0: first hop must be 1 to 255"},
		{"volta a b -f 31", "-f 31: first hop must be 1 to 30"},
		{"volta a b -m 5 -f 6", "-f 6: first hop must be 1 to 5"},
		{"volta a b -p 0", "-p 0: port must be 1 to 65535"},
		{"volta a b -p 65536", "-p 65536: port must be 1 to 65535"},
		{"volta a b --flows 0", "--flows 0: flows must be 1 to 10"},
		{"volta a b --flows 11", "--flows 11: flows must be 1 to 10"},
		{"volta a b --flows 4", "--flows 4: each flow needs a probe at every hop: must be at most the queries, -q 3"},
		{"volta a b 27", "packetlen 27: packet length must be 28 to 65000"},
		{"volta a b 65001", "packetlen 65001: packet length must be 28 to 65000"},
		{"volta a b 0", "packetlen 0: packet length must be 28 to 65000"},
		{"volta a b c", "packetlen c: packet length must be 28 to 65000"},
		{"volta a b ''", "packetlen '': packet length must be 28 to 65000"},
		{"volta a b -t 256", "-t 256: TOS must be 0 to 255, or 0x00 to 0xff"},
		{"volta a b -t 999", "-t 999: TOS must be 0 to 255, or 0x00 to 0xff"},
		{"volta a b -t -1", "-t -1: TOS must be 0 to 255, or 0x00 to 0xff"},
		{"volta a b -t 0x100", "-t 0x100: TOS must be 0 to 255, or 0x00 to 0xff"},
		{"volta a b -t 0x", "-t 0x: TOS must be 0 to 255, or 0x00 to 0xff"},
		{"volta a b -t 1_0", "-t 1_0: TOS must be 0 to 255, or 0x00 to 0xff"},
	} {
		t.Run(c.line[:min(len(c.line), 40)], func(t *testing.T) { refused(t, c.line, c.want) })
	}
	for _, v := range []string{"-1", "0", "0.0009", "3600.1", "x", "1,x", "1,-1", "1,1001", "1,1,1001", "1,1,1,1", "1,", ",1", "1,,2", "nan", "inf", "1,nan", "''", ","} {
		t.Run("-w "+v, func(t *testing.T) {
			refused(t, "volta a b -w "+v, "-w "+v+": wait must be MAX or MAX,HERE,NEAR, with MAX 0.001 to 3600 seconds, HERE and NEAR 0 to 1000")
		})
	}
	for _, v := range []string{"-1", "60001", "x", "nan", "inf", "''"} {
		t.Run("-z "+v, func(t *testing.T) {
			refused(t, "volta a b -z "+v, "-z "+v+": time between probes must be 0 to 10 seconds, or above 10 to 60000 milliseconds")
		})
	}
}

func refused(t *testing.T, line, want string) {
	t.Helper()
	got, err := command.Parse(line)
	require.EqualError(t, err, want)
	var usage *command.UsageError
	require.ErrorAs(t, err, &usage)
	require.Zero(t, got)
}

func TestConflicts(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"volta a b -I -T", "-I and -T: choose one kind of probe"},
		{"volta a b -TI", "-T and -I: choose one kind of probe"},
		{"volta a b -U -I", "-U and -I: choose one kind of probe"},
		{"volta a b -T -U", "-T and -U: choose one kind of probe"},
		{"volta a b -P dns -I", "-P and -I: choose one kind of probe"},
		{"volta a b -T -M dns", "-T and -P: choose one kind of probe"},
		{"volta a b -P icmp -p 7", "-p 7: ICMP probes (-I) have no port, and their sequence number identifies the probe: leave it out, or use UDP or TCP"},
		{"volta a b -P tcp --classic", "--classic: only UDP probes can be sent so, not tcp"},
		{"volta a b -4 -6", "-4 and -6: choose one address family"},
		{"volta a b -64", "-4 and -6: choose one address family"},
		{"volta a 2001:db8::1 -4", "-4: the destination 2001:db8::1 is an IPv6 address"},
		{"volta a 192.0.2.1 -6", "-6: the destination 192.0.2.1 is an IPv4 address"},
		{"volta a b -I -p 7", "-p 7: ICMP probes (-I) have no port, and their sequence number identifies the probe: leave it out, or use UDP or TCP"},
		{"volta a b -T 100", "packetlen 100: TCP probes (-T) have no payload, so their length cannot be chosen"},
		{"volta a b -T --classic", "--classic: only UDP probes can be sent so, not tcp"},
		{"volta a b --classic -I", "--classic: only UDP probes can be sent so, not icmp"},
		{"volta a b --classic --flows 2", "--flows 2: with --classic every probe is a flow of its own"},
	} {
		t.Run(c.line, func(t *testing.T) { refused(t, c.line, c.want) })
	}
}

func TestOptionsThatVoltaDoesNotHave(t *testing.T) {
	for option, what := range map[string]string{
		"-A": "AS path lookups", "--as-path-lookups": "AS path lookups",
		"-d": "socket debugging", "--debug": "socket debugging",
		"-D": "DCCP probes", "--dccp": "DCCP probes",
		"-e": "dump of ICMP extensions", "--extensions": "dump of ICMP extensions",
		"-g": "source routing", "--gateway": "source routing",
		"-i": "choice of the interface", "--interface": "choice of the interface",
		"-l": "choice of the flow label", "--flowlabel": "choice of the flow label",
		"--protocol": "raw probes of a protocol",
		"-r":         "bypass of the routing table",
		"-s":         "choice of the source address", "--source": "choice of the source address",
		"-UL": "UDP-Lite probes", "--sport": "choice of the source port", "--fwmark": "firewall mark",
		"--mtu": "path MTU discovery", "--back": "backward hops",
		"-V": "version of the program", "--version": "version of the program", "--help": "help text",
	} {
		want := option + " (" + what + ") is an option of traceroute(8) that volta does not have"
		refused(t, "volta a b "+option, want)
		refused(t, "volta "+option+" 192.0.2.1 a b", want)
		if strings.HasPrefix(option, "--") {
			refused(t, "volta a b "+option+"=7", want)
		}
	}
	refused(t, "volta a b -g192.0.2.1", "-g (source routing) is an option of traceroute(8) that volta does not have")
	refused(t, "volta a b -nA", "-A (AS path lookups) is an option of traceroute(8) that volta does not have")

	for line, option := range map[string]string{
		"-E": "-E", "-x": "-x", "-nx": "-x", "-h": "-h", "-é": "-é", "-L": "-L", "-1": "-1", "-0": "-0",
		"--foo": "--foo", "--foo=bar": "--foo", "--4": "--4", "---n": "---n", "--=x": "--=x", "--max": "--max", "--IMCP": "--IMCP",
	} {
		refused(t, "volta a b "+line, option+": unknown option")
	}
	refused(t, "volta a b --icmp=false", "-I false: the option takes no value")
	refused(t, "volta a b -n=no", "-n no: the option takes no value")
}

func TestParseArgsChecksWhatParseDoes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{nil, "source and destination are missing; a command is volta <source> <destination> [options] [packetlen]"},
		{[]string{"a", "b\xff"}, `"b\xff" is not valid UTF-8`},
		{[]string{"a", "b", "--icmp=\x00"}, `"--icmp=\x00" holds the character U+0000; only printable ones are allowed`},
		{[]string{"a", strings.Repeat("b", 5000)}, "the command has 5003 bytes, it must have at most 4096"},
	} {
		_, err := command.ParseArgs(c.args)
		require.EqualError(t, err, c.want)
	}
}

func TestValidate(t *testing.T) {
	require.NoError(t, with(nil).Validate())
	for want, f := range map[string]func(s *command.Spec){
		`prober: must be "udp", "icmp", "tcp", or another one that the agent has`:                                 func(s *command.Spec) { s.Prober = "" },
		"-m 300: max hops must be 1 to 255":                                                                       func(s *command.Spec) { s.MaxTTL = 300 },
		"-f 31: first hop must be 1 to 30":                                                                        func(s *command.Spec) { s.FirstTTL = 31 },
		"-q 0: queries must be 1 to 10":                                                                           func(s *command.Spec) { s.Queries = 0 },
		"-N -1: simultaneous queries must be 1 to 2550":                                                           func(s *command.Spec) { s.SimQueries = -1 },
		"--flows 0: flows must be 1 to 10":                                                                        func(s *command.Spec) { s.Flows = 0 },
		"packetlen 27: packet length must be 28 to 65000":                                                         func(s *command.Spec) { s.Size = 27 },
		"address family 5: must be 4, 6, or 0 for either":                                                         func(s *command.Spec) { s.Family = 5 },
		"-w -1,3,10: wait must be MAX or MAX,HERE,NEAR, with MAX 0.001 to 3600 seconds, HERE and NEAR 0 to 1000":  func(s *command.Spec) { s.WaitMax = -time.Second },
		"-w 5,3,1001: wait must be MAX or MAX,HERE,NEAR, with MAX 0.001 to 3600 seconds, HERE and NEAR 0 to 1000": func(s *command.Spec) { s.WaitNear = 1001 },
		"-z 60001: time between probes must be 0 to 10 seconds, or above 10 to 60000 milliseconds":                func(s *command.Spec) { s.Interval = 60001 * time.Millisecond },
		`destination "a\nb": a host name or address cannot hold spaces or control characters`:                     func(s *command.Spec) { s.Target = "a\nb" },
		"-o: there are 65 options of the prober, they must be at most 64": func(s *command.Spec) {
			s.Options = map[string]string{}
			for i := range 65 {
				s.Options["o"+strconv.Itoa(i)] = ""
			}
		},
		`-o "a=b\n": a value cannot hold control characters`:  func(s *command.Spec) { s.Options = map[string]string{"a": "b\n"} },
		`-o "a=\xff": a value cannot hold control characters`: func(s *command.Spec) { s.Options = map[string]string{"a": "\xff"} },
	} {
		require.EqualError(t, with(f).Validate(), want)
	}
}

func specs() *rapid.Generator[command.Spec] {
	return rapid.Custom(func(t *rapid.T) command.Spec {
		s := command.Spec{
			Source:       rapid.StringMatching(`[A-Za-z0-9._-]{1,64}`).Draw(t, "source"),
			Target:       rapid.StringMatching(`[A-Za-z0-9."'\\$#:%ü][A-Za-z0-9."'\\$#:%ü-]{0,100}`).Draw(t, "target"),
			Prober:       rapid.SampledFrom([]string{"udp", "icmp", "tcp", "dns"}).Draw(t, "prober"),
			MaxTTL:       rapid.IntRange(1, 255).Draw(t, "max"),
			Queries:      rapid.IntRange(1, 10).Draw(t, "queries"),
			SimQueries:   rapid.IntRange(1, 2550).Draw(t, "sim"),
			WaitMax:      time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(time.Hour)).Draw(t, "wait")),
			WaitHere:     rapid.Float64Range(0, 1000).Draw(t, "here"),
			WaitNear:     rapid.Float64Range(0, 1000).Draw(t, "near"),
			TOS:          rapid.Byte().Draw(t, "tos"),
			DontFragment: rapid.Bool().Draw(t, "df"),
			Numeric:      rapid.Bool().Draw(t, "numeric"),
			Interval:     time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "interval")),
			Family:       rapid.SampledFrom([]int{0, 4, 6}).Draw(t, "family"),
			Flows:        1,
		}
		s.FirstTTL = rapid.IntRange(1, s.MaxTTL).Draw(t, "first")
		if s.Prober != "icmp" {
			s.Port = rapid.Uint16().Draw(t, "port")
		}
		if s.Prober != "tcp" && rapid.Bool().Draw(t, "sized") {
			s.Size = rapid.IntRange(28, 65000).Draw(t, "size")
		}
		if s.Prober == "udp" && rapid.Bool().Draw(t, "classic") {
			s.Classic = true
		} else {
			s.Flows = rapid.IntRange(1, s.Queries).Draw(t, "flows")
		}
		if options := rapid.MapOfN(rapid.StringMatching(`[a-z][a-z0-9-]{0,31}`), rapid.StringMatching(`[-= "'\\$#ü,a-z]{0,40}`), 0, 3).Draw(t, "options"); len(options) > 0 {
			s.Options = options
		}
		if rapid.Bool().Draw(t, "no factors") {
			s.WaitHere, s.WaitNear = 0, 0
		}
		return s
	})
}

func TestWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := specs().Draw(t, "spec")
		if want.Validate() != nil { // a target that happens to be an address of the other family
			t.Skip("not valid")
		}
		got, err := command.ParseArgs(want.Words())
		require.NoError(t, err, "%q", want.Words())
		require.Equal(t, want, got)
	})
}

func TestWordsAreShort(t *testing.T) {
	for _, words := range []string{
		"node1 example.com",
		"node1 example.com -I -m 5 -q 1 100",
		"node1 example.com -4 -F -f 2 -T -m 20 -N 4 -n -p 443 -t 2 -w 1 -q 2 -z 0.01 --flows 2",
		"node1 example.com -t 0x01 -w 1.5,2,0 -z 10500 --classic",
		"-n -- -node1 example.com 100",
		"node1 example.com -P dns -o a=b -o c=d -q 1",
	} {
		got, err := command.ParseArgs(strings.Fields(words))
		require.NoError(t, err)
		if strings.Contains(words, "-z 10500") {
			require.Equal(t, 10500*time.Millisecond, got.Interval)
		}
		require.Equal(t, strings.Fields(words), got.Words())
	}
}

func TestUsageNamesEveryOption(t *testing.T) {
	usage := command.Usage()
	for _, o := range []string{
		"-4", "-6", "-F  --dont-fragment", "-f hop  --first=hop", "-I  --icmp", "-T  --tcp", "-m hops  --max-hops=hops",
		"-N probes  --sim-queries=probes", "-n", "-p port  --port=port", "-t tos  --tos=tos", "-w MAX,HERE,NEAR  --wait=MAX,HERE,NEAR",
		"-q probes  --queries=probes", "-z time  --sendwait=time", "-U  --udp", "-P name  --prober=name", "-o name=value  --option=name=value", "--flows=count", "--classic",
	} {
		require.Contains(t, usage, "\n  "+o)
	}
	for line := range strings.Lines(usage) {
		require.LessOrEqual(t, len(strings.TrimRight(line, "\n")), 80)
		require.Equal(t, strings.TrimRight(line, " \n"), strings.TrimRight(line, "\n"))
	}
	require.True(t, strings.HasPrefix(usage, "Usage: volta <source> <destination> [options] [packetlen]\n"))
	require.True(t, strings.HasSuffix(usage, "\n"))
}

func FuzzParse(f *testing.F) {
	for i, line := range []string{
		"volta node1 google.com -m 30 -q 5 -w 2", "volta node1 google.com -I", "volta a b -t 2 100", "volta a b -UL",
		"volta -w 1/2/3 -z 11 -nFT --port=80 -- -a b", `volta 'a' "b" \-n --icmp=x`, "volta a b --flows 3 -N 7 -4", "volta a b -é --=", "volta a b -P dns -o q=example.com -O 'w=a b' --option=x=",
	} {
		f.Add(line)
		f.Add(line + " " + strconv.Itoa(i))
	}
	f.Fuzz(func(t *testing.T, line string) {
		s, err := command.Parse(line)
		if err != nil {
			var usage *command.UsageError
			require.ErrorAs(t, err, &usage)
			require.Zero(t, s)
			require.Less(t, len(err.Error()), 1024)
			require.NotContains(t, err.Error(), "\x1b")
			require.NotContains(t, err.Error(), "\n")
			return
		}
		require.NoError(t, s.Validate())
		again, err := command.ParseArgs(s.Words())
		require.NoError(t, err)
		require.Equal(t, s, again)
	})
}
