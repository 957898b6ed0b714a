package command

import "strings"

// Usage returns the help text: a line for the form of a command, then the
// options in the order of traceroute(8), with defaults in parentheses. It ends
// in a newline.
func Usage() string {
	var b strings.Builder
	b.WriteString("Usage: " + synopsis + "\n\nOptions, with what holds without them in parentheses:\n")
	for _, o := range options {
		entry(&b, o.names(), o.help)
	}
	b.WriteString("\nArguments:\n")
	entry(&b, "source", "The agent that sends the probes")
	entry(&b, "destination", "The host whose path is wanted, a name or address")
	entry(&b, "packetlen", "Bytes of a probe with its headers, 28 to 65000 (60\nin IPv4, 80 in IPv6; TCP probes have no choice)")
	return b.String()
}

// names returns e.g. "-m max_ttl  --max-hops=max_ttl".
func (o option) names() string {
	var forms []string
	if o.short != "" {
		forms = append(forms, strings.TrimRight("-"+o.short+" "+o.arg, " "))
	}
	if o.long != "" {
		long := "--" + o.long
		if o.arg != "" {
			long += "=" + o.arg
		}
		forms = append(forms, long)
	}
	return strings.Join(forms, "  ")
}

// entry writes names and, from column 30 on, what they mean.
func entry(b *strings.Builder, names, help string) {
	const indent = 30
	b.WriteString("  " + names)
	lead := indent - 2 - len(names)
	if lead < 2 {
		b.WriteByte('\n')
		lead = indent
	}
	b.WriteString(strings.Repeat(" ", lead))
	b.WriteString(strings.ReplaceAll(help, "\n", "\n"+strings.Repeat(" ", indent)))
	b.WriteByte('\n')
}
