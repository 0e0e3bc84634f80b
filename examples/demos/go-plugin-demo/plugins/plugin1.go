// The first of two plugins to choose from.
package main

import (
	"fmt"
	"plugd"
)

// I is the exported variable: anybody may read it, and change it.
var I = 7

// Run is what the plugin is for.
func Run() string { return "plugin 1 runs" }

// PrintI prints the variable as the plugin itself sees it.
func PrintI() string {
	text := fmt.Sprintf("plugin 1 has %d in I", I)
	fmt.Println(text)
	return text
}

type Plugin1 struct{}

func (Plugin1) Name() string { return "plugin1" }

func (Plugin1) Desc() string { return "The first of two plugins." }

func init() {
	plugd.Register(Plugin1{})
	plugd.Setting("I", "The exported variable.", &I)
	plugd.Command("run", "Runs.", Run)
	plugd.Command("print_i", "Prints I, to the log as well.", PrintI)
}

func main() {}
