package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever is sent, the answer is an error with a code and a sentence, and the
// node goes on with nothing changed.
func TestHostileRPC(t *testing.T) {
	dir := newDir(t, "rpc_max_body=100000", "job_max_slices=3")
	n := startNode(t, dir)
	tok := tokenOf(t, dir)
	do(t, dir, "credits", "issue", "alice", "100")

	secret := filepath.Join(dir, "token")
	inbox := filepath.Join(dir, "inbox")
	for name, target := range map[string]string{"link": secret, "up": "../token", "folder": dir} {
		if err := os.Symlink(target, filepath.Join(inbox, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(inbox, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}

	slices := func(s string) string {
		return `{"id":"j","buyer":"alice","lane":"consumer","kind":"transcode","price":1,"slices":[` + s + `]}`
	}
	one := `{"content":"aGk="}`
	huge := strings.Repeat("x", 300)
	for _, c := range []struct {
		name, method, params string
		code                 int
	}{
		{"no method", "nothing", `{}`, -32601},
		{"builtin", "rpc.serverInfo", `{}`, -32601},
		{"unknown parameter", "credits_balance", `{"account":"alice","more":1}`, -32602},
		{"array", "credits_balance", `["alice"]`, -32602},
		{"wrong type", "credits_balance", `{"account":7}`, -32602},
		{"empty account", "credits_balance", `{"account":""}`, 2},
		{"long account", "credits_issue", `{"account":"` + huge + `","amount":1}`, 2},
		{"negative amount", "credits_issue", `{"account":"a","amount":-1}`, -32602},
		{"amount beyond 64 bits", "credits_issue", `{"account":"a","amount":18446744073709551616}`, -32602},
		{"overflow", "credits_issue", `{"account":"a","amount":18446744073709551615}`, 6},
		{"nothing", "credits_issue", `{"account":"a","amount":0}`, 2},
		{"issue by transfer", "credits_transfer", `{"from":"issuer","to":"a","amount":1}`, 2},
		{"to oneself", "credits_transfer", `{"from":"alice","to":"alice","amount":1}`, 2},
		{"poor", "credits_transfer", `{"from":"alice","to":"bob","amount":101}`, 6},
		{"unknown job", "job_status", `{"id":"nobody"}`, 3},
		{"path as a job", "job_status", `{"id":"../token"}`, 3},
		{"unknown order", "order_cancel", `{"id":"nobody"}`, 3},
		{"unknown receipt", "settlement_retry", `{"receipt":"` + strings.Repeat("0", 64) + `"}`, 5},
		{"no receipt", "settlement_retry", `{"receipt":"xyz"}`, -32602},
		{"not armed", "settlement_cancel_arm", `{}`, 5},
		{"negative delay", "settlement_arm", `{"delay_seconds":-1}`, 2},
		{"delay and height", "settlement_arm", `{"delay_seconds":1,"height":1}`, 2},
		{"no slices", "job_submit", slices(""), 2},
		{"too many slices", "job_submit", slices(one + "," + one + "," + one + "," + one), 8},
		{"neither content nor file", "job_submit", slices(`{}`), 2},
		{"both", "job_submit", slices(`{"content":"aGk=","file":"a"}`), 2},
		{"no base64", "job_submit", slices(`{"content":"%%%"}`), -32602},
		{"bad reference", "job_submit", slices(`{"content":"aGk=","reference":"12"}`), -32602},
		{"missing file", "job_submit", slices(`{"file":"missing"}`), 2},
		{"path up", "job_submit", slices(`{"file":"../token"}`), 2},
		{"absolute path", "job_submit", slices(`{"file":"` + secret + `"}`), 2},
		{"link out", "job_submit", slices(`{"file":"link"}`), 2},
		{"relative link out", "job_submit", slices(`{"file":"up"}`), 2},
		{"through a linked folder", "job_submit", slices(`{"file":"folder/token"}`), 2},
		{"a folder", "job_submit", slices(`{"file":"dir"}`), 2},
		{"NUL", "job_submit", slices(`{"file":"a\u0000b"}`), 2},
		{"unknown kind", "job_submit", strings.Replace(slices(one), "transcode", "mining", 1), 2},
		{"unknown lane", "job_submit", strings.Replace(slices(one), "consumer", "vip", 1), -32602},
		{"no lane", "job_submit", strings.Replace(slices(one), `"lane":"consumer",`, "", 1), 2},
		{"path as an id", "job_submit", strings.Replace(slices(one), `"j"`, `"../j"`, 1), 2},
		{"separator in an id", "job_submit", strings.Replace(slices(one), `"j"`, `"a|b"`, 1), 2},
		{"issuer buys", "job_submit", strings.Replace(slices(one), "alice", "issuer", 1), 2},
		{"no bands", "job_submit", strings.Replace(slices(one), `"price":1,`, "", 1), 2},
		{"expired", "job_submit", strings.Replace(slices(one), `"price"`, `"expires":"2001-01-01T00:00:00Z","price"`, 1), 2},
		{"no units", "offer_post", `{"provider":"bob","lane":"consumer","units":0,"price":1}`, 2},
		{"empty provider", "offer_post", `{"provider":"","lane":"consumer","units":1,"price":1}`, 2},
		{"bundle id", "courier_send", `{"id":"zz","sender":"alice","content":"aGk="}`, 2},
		{"no sender", "courier_send", `{"content":"aGk="}`, 2},
		{"bundle outside", "courier_send", `{"sender":"alice","file":"../token"}`, 2},
		{"no peer", "courier_flush", `{}`, 2},
		{"odd peer", "courier_flush", `{"to":"file:///etc/passwd"}`, 2},
		{"odd state", "courier_status", `{"state":"odd"}`, 2},
	} {
		status, answer := post(t, n.addr, tok, fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, c.method, c.params))
		var r struct {
			Result json.RawMessage
			Error  struct {
				Code    int
				Message string
			}
		}
		if err := json.Unmarshal([]byte(answer), &r); err != nil || status != 200 {
			t.Errorf("%s: %d %q", c.name, status, answer)
		}
		if r.Error.Code != c.code || len(r.Error.Message) < 5 || r.Result != nil {
			t.Errorf("%s: %s, want code %d", c.name, answer, c.code)
		}
		if strings.Contains(answer, tok) {
			t.Errorf("%s: shows the token", c.name)
		}
	}

	for _, c := range []struct {
		name, auth, body string
		status           int
		want             string
	}{
		{"bad JSON", tok, `{"jsonrpc`, 400, "no JSON"},
		{"empty", tok, ``, 400, "no JSON"},
		{"deep", tok, strings.Repeat("[", 50_000), 400, "no JSON"},
		{"no call", tok, `7`, 200, "-32700"},
		{"empty batch", tok, `[]`, 400, "-32600"},
		{"long batch", tok, "[" + strings.Repeat("1,", 100) + "1]", 400, "1 to 100 calls"},
		{"huge", tok, `{"x":"` + strings.Repeat("x", 100_000) + `"}`, 413, "too large"},
		{"large without a token", "", `{"x":"` + strings.Repeat("x", strangersBody) + `"}`, 413, "too large"},
		{"wrong token", "wrong", `{}`, 401, "wrong token"},
		{"part of the token", tok[:len(tok)-1], `{}`, 401, "wrong token"},
	} {
		status, answer := post(t, n.addr, c.auth, c.body)
		if status != c.status || !strings.Contains(answer, c.want) || !strings.Contains(answer, `"message":`) {
			t.Errorf("%s: %d %.200q, want %d %q", c.name, status, answer, c.status, c.want)
		}
	}

	cfg, err := readConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	for method := range (&node{cfg: cfg}).methods(t.Context()) {
		_, answer := post(t, n.addr, "", fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{}}`, method))
		if open := !strings.Contains(answer, "needs the token"); open != readOnly[method] {
			t.Errorf("%s without the token: %s", method, answer)
		}
	}

	if s := doJSON[settlementResult](t, dir, "settlement", "status"); s.Outstanding != 100 || len(s.Balances) != 1 {
		t.Errorf("something changed: %+v", s)
	}
	for _, folder := range []string{"jobs", "offers", "bundles"} {
		entries, _ := os.ReadDir(filepath.Join(dir, folder))
		for _, e := range entries {
			if e.Name() != "lock" { // by which the node claims the folder
				t.Errorf("%s has %v", folder, e)
			}
		}
	}
}

// Pages of other sites are refused, and so are bundles without the peers' token.
func TestStrangers(t *testing.T) {
	dir := newDir(t)
	n := startNode(t, dir)
	for _, c := range []struct {
		method, path, header, value string
		status                      int
	}{
		{"POST", "/rpc", "Sec-Fetch-Site", "cross-site", 403},
		{"POST", "/rpc", "Content-Type", "text/plain", 415},
		{"GET", "/rpc", "X-None", "", 405},
		{"PUT", "/courier/" + strings.Repeat("ab", 16), "X-None", "", 401},
		{"PUT", "/courier/" + strings.Repeat("ab", 16), "Authorization", "Bearer " + tokenOf(t, dir), 401},
		{"GET", "/../token", "X-None", "", 404},
		{"GET", "/token", "X-None", "", 404},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+n.addr+c.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(c.header, c.value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.status {
			t.Errorf("%s %s with %s %q: %d, want %d", c.method, c.path, c.header, c.value, resp.StatusCode, c.status)
		}
	}
}

// A file in the inbox is a slice like any other.
func TestInbox(t *testing.T) {
	dir := newDir(t)
	n := startNode(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "inbox", "a"), []byte("hi"), 0o600); err != nil {
		t.Fatal(err)
	}
	var answers [2]jobResult
	for i, s := range []string{`"file":"a"`, `"content":"` + base64.StdEncoding.EncodeToString([]byte("hi")) + `"`} {
		params := json.RawMessage(fmt.Sprintf(`{"buyer":"a","lane":"industrial","kind":"inference","price":1,"slices":[{%s}]}`, s))
		if err := rpc(t.Context(), n.addr, tokenOf(t, dir), "job_submit", params, &answers[i]); err != nil {
			t.Fatal(err)
		}
	}
	if answers[0].Slices[0].Reference != answers[1].Slices[0].Reference {
		t.Errorf("%+v", answers)
	}
}
