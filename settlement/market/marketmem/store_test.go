package marketmem_test

import (
	"sync"
	"testing"

	"github.com/computemarket/computemarket/receipt/receipttest"
	"github.com/computemarket/computemarket/settlement/market/marketmem"
	"github.com/computemarket/computemarket/settlement/market/markettest"
)

func TestStore(t *testing.T) {
	var mu sync.Mutex
	places := map[string]markettest.Place{}
	markettest.Run(t, func(name string) (markettest.Place, error) {
		mu.Lock()
		defer mu.Unlock()
		p, ok := places[name]
		if !ok {
			log := &receipttest.Mem{}
			store, err := marketmem.New(log)
			if err != nil {
				return p, err
			}
			p = markettest.Place{Store: store, Log: log}
			places[name] = p
		}
		return p, nil
	})
}
