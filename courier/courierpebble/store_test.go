package courierpebble_test

import (
	"testing"

	"github.com/computemarket/computemarket/courier"
	"github.com/computemarket/computemarket/courier/courierpebble"
	"github.com/computemarket/computemarket/courier/couriertest"
)

func TestSuite(t *testing.T) {
	couriertest.Run(t, func(dir string) (courier.Store, error) {
		return courierpebble.Open(dir, nil)
	})
}
