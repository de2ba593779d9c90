package postgrestest

import "fmt"

const childRole = "POSTGRESTEST_CHILD"

func runChild(role string) error { return fmt.Errorf("no child %q", role) }
