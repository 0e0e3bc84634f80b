// The second of two plugins to choose from.
package main

import (
	"fmt"
	"plugd"
)

// I is the exported variable: anybody may read it, and change it.
var I = 41

// Run is what the plugin is for.
func Run() string { return "plugin 2 runs" }

// PrintI prints the variable as the plugin itself sees it.
func PrintI() string {
	text := fmt.Sprintf("plugin 2 has %d in I", I)
	fmt.Println(text)
	return text
}

type Plugin2 struct{}

func (Plugin2) Name() string { return "plugin2" }

func (Plugin2) Desc() string { return "The second of two plugins." }

func init() {
	plugd.Register(Plugin2{})
	plugd.Setting("I", "The exported variable.", &I)
	plugd.Command("run", "Runs.", Run)
	plugd.Command("print_i", "Prints I, to the log as well.", PrintI)
}

func main() {}
