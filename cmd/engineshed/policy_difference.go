package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/engineshed/engineshed/internal/iam"
)

// How differences are told to people.
var (
	changeSigns = map[string]string{iam.Created: "+", iam.Changed: "~", iam.Deleted: "-"}
	kindNames   = map[string]string{
		iam.KindAccount: "account", iam.KindPolicy: "policy", iam.KindUser: "user", iam.KindGroup: "group", iam.KindRole: "role", iam.KindAccessKey: "access key",
		iam.KindAttachment: "attachment", iam.KindMembership: "membership in the group",
	}
)

// printDifference prints one difference: a line, and below it what a document says otherwise.
func printDifference(out io.Writer, d iam.Difference) {
	line := "  " + changeSigns[d.Change] + " " + kindNames[d.Kind] + " " + d.Name
	switch {
	case d.Kind == iam.KindAttachment:
		line += " to " + d.Of
	case d.Of != "":
		line += " of " + d.Of
	}
	var facts, document []string
	for _, f := range d.Facts {
		switch {
		case f.Name == "document", f.Name == "trustPolicy":
			document = textDiff(f.Before, f.After)
		case f.Name == "secret":
			facts = append(facts, "another secret")
		case d.Change == iam.Changed:
			facts = append(facts, fmt.Sprintf("%s %q, was %q", f.Name, f.After, f.Before))
		default:
			facts = append(facts, fmt.Sprintf("%s %q", f.Name, f.After))
		}
	}
	if facts != nil {
		line += ": " + strings.Join(facts, "; ")
	}
	fmt.Fprintln(out, line)
	for _, text := range document {
		fmt.Fprintln(out, "      "+text)
	}
}

// around is how many lines are shown before and after those that differ.
const around = 2

// textDiff returns the lines of two policy documents that differ, after - and +, with some around them. Documents that differ
// in their layout only are said to.
func textDiff(before, after string) []string {
	was, is := documentLines(before), documentLines(after)
	all := merged(was, is)
	shown, differs := make([]bool, len(all)), false
	for n, line := range all {
		if line[0] == ' ' {
			continue
		}
		differs = true
		for near := max(0, n-around); near <= min(n+around, len(all)-1); near++ {
			shown[near] = true
		}
	}
	if !differs {
		return []string{"another layout of the same document"}
	}
	var lines []string
	for n, line := range all {
		switch {
		case shown[n]:
			lines = append(lines, line)
		case n == 0 || shown[n-1]:
			lines = append(lines, "  ...")
		}
	}
	return lines
}

func documentLines(document string) []string {
	if document == "" {
		return nil
	}
	return strings.Split(pretty(document), "\n")
}

// merged returns the lines of both texts, each after a space when it is in both, after - when it was and after + when it is.
// It keeps a longest common subsequence.
func merged(was, is []string) []string {
	common := make([][]int, len(was)+1) // how many lines the rests beginning here have in common
	for i := range common {
		common[i] = make([]int, len(is)+1)
	}
	for i := len(was) - 1; i >= 0; i-- {
		for k := len(is) - 1; k >= 0; k-- {
			if was[i] == is[k] {
				common[i][k] = common[i+1][k+1] + 1
			} else {
				common[i][k] = max(common[i+1][k], common[i][k+1])
			}
		}
	}
	var lines []string
	i, k := 0, 0
	for i < len(was) || k < len(is) {
		switch {
		case i < len(was) && k < len(is) && was[i] == is[k]:
			lines, i, k = append(lines, "  "+was[i]), i+1, k+1
		case k == len(is) || i < len(was) && common[i+1][k] >= common[i][k+1]:
			lines, i = append(lines, "- "+was[i]), i+1
		default:
			lines, k = append(lines, "+ "+is[k]), k+1
		}
	}
	return lines
}
