package kv

// Scans returns how many are in progress.
func (db *DB) Scans() int {
	db.scans.mu.Lock()
	defer db.scans.mu.Unlock()
	return len(db.scans.all)
}
