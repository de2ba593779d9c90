package postgrestest

func runChild(role string) error { return nil }

const childRole = "POSTGRESTEST_CHILD"
