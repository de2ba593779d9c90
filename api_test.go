package computemarket_test

import (
	"bytes"
	"flag"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/api anew")

// TestAPI compares what each package exports with its file in docs/api, so that
// a change of the API is seen in a diff. A change that is meant is written down
// with: go test -run TestAPI -update .
func TestAPI(t *testing.T) {
	exports := map[string]string{} // files of export data
	var public []string
	for line := range strings.Lines(string(goTool(t, "list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Name}}\t{{.Export}}", "./..."))) {
		fields := strings.Split(strings.TrimRight(line, "\n"), "\t")
		path, name, file := fields[0], fields[1], fields[2]
		exports[path] = file
		if rel, ours := strings.CutPrefix(path, module+"/"); ours && name != "main" && !strings.Contains("/"+rel+"/", "/internal/") {
			public = append(public, path)
		}
	}
	imp := importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(exports[path])
	})
	var names []string
	for _, path := range public {
		pkg, err := imp.Import(path)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.ReplaceAll(strings.TrimPrefix(path, module+"/"), "/", ".") + ".txt"
		names = append(names, name)
		compareAPI(t, filepath.Join("docs", "api", name), exported(pkg))
	}
	kept, err := filepath.Glob("docs/api/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range kept {
		if slices.Contains(names, filepath.Base(file)) {
			continue
		}
		if *update {
			os.Remove(file)
		} else {
			t.Errorf("%s is of no package: remove it", file)
		}
	}
}

func compareAPI(t *testing.T, file string, now []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, now, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	was, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(was, now) {
		return
	}
	before, after := strings.Split(string(was), "\n"), strings.Split(string(now), "\n")
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("%s: gone: %s", file, line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("%s: new: %s", file, line)
		}
	}
	if !t.Failed() {
		t.Errorf("%s: in another order", file)
	}
}

// exported lists what importers of pkg can name, a line each, sorted but for the
// fields of a struct, whose order counts.
func exported(pkg *types.Package) []byte {
	l := lister{here: pkg}
	for _, name := range pkg.Scope().Names() {
		obj := pkg.Scope().Lookup(name)
		if !obj.Exported() {
			continue
		}
		switch obj := obj.(type) {
		case *types.Const:
			l.line("const %s %s = %s", name, l.text(obj.Type()), obj.Val().ExactString())
		case *types.Var:
			l.line("var %s %s", name, l.text(obj.Type()))
		case *types.Func:
			l.line("func %s%s", name, l.signature(obj))
		case *types.TypeName:
			l.typeName(obj)
		}
	}
	return l.out.Bytes()
}

type lister struct {
	here *types.Package
	out  bytes.Buffer
}

func (l *lister) line(format string, args ...any) { fmt.Fprintf(&l.out, format+"\n", args...) }

func (l *lister) text(t types.Type) string {
	return types.TypeString(t, func(p *types.Package) string {
		if p == l.here {
			return ""
		}
		return p.Name()
	})
}

// signature leaves out the names of parameters, as they bind no caller.
func (l *lister) signature(f *types.Func) string {
	unnamed := func(tuple *types.Tuple) *types.Tuple {
		var vars []*types.Var
		for v := range tuple.Variables() {
			vars = append(vars, types.NewParam(token.NoPos, nil, "", v.Type()))
		}
		return types.NewTuple(vars...)
	}
	sig := f.Signature()
	var params []*types.TypeParam
	for p := range sig.TypeParams().TypeParams() {
		params = append(params, p)
	}
	text := l.text(types.NewSignatureType(nil, nil, nil, unnamed(sig.Params()), unnamed(sig.Results()), sig.Variadic()))
	return l.typeParams(params) + strings.TrimPrefix(text, "func")
}

func (l *lister) typeParams(params []*types.TypeParam) string {
	if len(params) == 0 {
		return ""
	}
	var list []string
	for _, p := range params {
		list = append(list, p.Obj().Name()+" "+l.text(p.Constraint()))
	}
	return "[" + strings.Join(list, ", ") + "]"
}

func (l *lister) typeName(obj *types.TypeName) {
	name := obj.Name()
	if obj.IsAlias() {
		l.line("type %s = %s", name, l.text(types.Unalias(obj.Type())))
		return
	}
	named := obj.Type().(*types.Named)
	params := slices.Collect(named.TypeParams().TypeParams())
	switch u := named.Underlying().(type) {
	case *types.Struct:
		l.line("type %s%s struct", name, l.typeParams(params))
		for i := range u.NumFields() {
			f := u.Field(i)
			if !f.Exported() {
				continue
			}
			field := f.Name() + " "
			if f.Embedded() {
				field = "embedded "
			}
			l.line("field %s.%s", name, strings.TrimSpace(field+l.text(f.Type())+" "+u.Tag(i)))
		}
	case *types.Interface:
		l.line("type %s%s interface", name, l.typeParams(params))
		for m := range u.Methods() {
			l.line("method %s.%s%s", name, m.Name(), l.signature(m))
		}
	default:
		l.line("type %s%s %s", name, l.typeParams(params), l.text(u))
	}
	methods := slices.SortedFunc(named.Methods(), func(a, b *types.Func) int { return strings.Compare(a.Name(), b.Name()) })
	for _, m := range methods {
		if m.Exported() {
			l.line("method (%s) %s%s", l.text(m.Signature().Recv().Type()), m.Name(), l.signature(m))
		}
	}
}
