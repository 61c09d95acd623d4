// cri sends one request of Kubernetes' Container Runtime Interface, as a kubelet would.
//
//	cri SOCKET METHOD [REQUEST]    cri /run/containerd/containerd.sock RunPodSandbox '{"config": {...}}'
//
// METHOD is one of runtime.v1's RuntimeService or ImageService that answers once; request and answer are
// protobuf's JSON. Exit code 1 with the runtime's words on stderr when the runtime refuses.
// It is Go because the interface is published as a Go module, which containerd brings along anyway.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	_ "k8s.io/cri-api/pkg/apis/runtime/v1" // the interface, found by its name
)

// A pod's network may have to wait for other pods' on a slow machine, but not for ever.
const patience = 2 * time.Minute

func main() {
	if len(os.Args) < 3 || len(os.Args) > 4 {
		fail(fmt.Errorf("usage: cri SOCKET METHOD [REQUEST]"))
	}
	request := "{}"
	if len(os.Args) == 4 {
		request = os.Args[3]
	}
	answer, err := call(os.Args[1], os.Args[2], request)
	if err != nil {
		fail(fmt.Errorf("%s: %w", os.Args[2], err))
	}
	fmt.Println(answer)
}

func call(socket, name, request string) (string, error) {
	method, err := find(name)
	if err != nil {
		return "", err
	}
	in, out := dynamicpb.NewMessage(method.Input()), dynamicpb.NewMessage(method.Output())
	if err := protojson.Unmarshal([]byte(request), in); err != nil {
		return "", fmt.Errorf("the request: %w", err)
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return "", err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name())
	if err := connection.Invoke(ctx, path, in, out); err != nil {
		return "", err
	}
	answer, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(out)
	return string(answer), err
}

func find(name string) (protoreflect.MethodDescriptor, error) {
	for _, service := range []protoreflect.FullName{"runtime.v1.RuntimeService", "runtime.v1.ImageService"} {
		found, err := protoregistry.GlobalFiles.FindDescriptorByName(service.Append(protoreflect.Name(name)))
		if err != nil {
			continue
		}
		method := found.(protoreflect.MethodDescriptor)
		if !method.IsStreamingServer() && !method.IsStreamingClient() {
			return method, nil
		}
	}
	return nil, fmt.Errorf("no such method of runtime.v1")
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "cri:", err)
	os.Exit(1)
}
