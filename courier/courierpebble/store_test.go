package courierpebble_test

import (
	"testing"

	"github.com/computemarket/computemarket/courier/couriertest"
)

func TestSuite(t *testing.T) {
	couriertest.Run(t, openDamageable)
}
