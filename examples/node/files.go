package main

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"

	"github.com/computemarket/computemarket/internal/durable"
)

// writeFile writes a file that only its owner can read, whole or not at all, and
// durably. A file that is there keeps its mode.
func writeFile(path string, data []byte) error {
	return durable.WriteFile(durable.OS{}, path, data, 0o600)
}

// token is a secret that a caller has to show. The empty one asks for nothing.
type token string

// openToken reads the token in a file, making both the first time. A file that
// others can read is an error.
func openToken(path string) (token, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := writeFile(path, []byte(rand.Text()+"\n")); err != nil {
			return "", err
		}
	}
	return readToken(path)
}

func readToken(path string) (token, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s: others may read the token: chmod 600 it", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	t := token(strings.TrimSpace(string(text)))
	if t == "" {
		return "", fmt.Errorf("%s: the token is empty", path)
	}
	return t, nil
}

// header is what shows the token.
func (t token) header() http.Header {
	if t == "" {
		return nil
	}
	return http.Header{"Authorization": {"Bearer " + string(t)}}
}

// shownBy reports whether a request shows the token.
func (t token) shownBy(r *http.Request) bool {
	shown, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return t == "" || ok && subtle.ConstantTimeCompare([]byte(shown), []byte(t)) == 1
}
