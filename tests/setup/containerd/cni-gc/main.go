// cni-gc tells the plugins of a network which attachments still exist, with the library that runtimes use.
//
//	cni-gc CONFLIST BIN_DIR [CONTAINER/IFNAME]...
//
// The library sends a DEL for each attachment in its cache that is not named, and then GC to each plugin (CNI
// specification 1.1, section "GC"). CRI-O does this when it starts; containerd up to 2.4 never does.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
)

const patience = time.Minute

func main() {
	if len(os.Args) < 3 {
		fail(fmt.Errorf("usage: cni-gc CONFLIST BIN_DIR [CONTAINER/IFNAME]..."))
	}
	// Not nil when nothing is named: the plugins would then be told nothing at all.
	attachments := []types.GCAttachment{}
	for _, arg := range os.Args[3:] {
		container, ifname, ok := strings.Cut(arg, "/")
		if !ok {
			fail(fmt.Errorf("%q: an attachment is CONTAINER/IFNAME", arg))
		}
		attachments = append(attachments, types.GCAttachment{ContainerID: container, IfName: ifname})
	}
	network, err := libcni.ConfListFromFile(os.Args[1])
	if err != nil {
		fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	plugins := libcni.NewCNIConfig([]string{os.Args[2]}, nil)
	if err := plugins.GCNetworkList(ctx, network, &libcni.GCArgs{ValidAttachments: attachments}); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "cni-gc:", err)
	os.Exit(1)
}
