package admission_test

import (
	"fmt"
	"time"

	"github.com/computemarket/computemarket/admission"
)

func Example() {
	c, err := admission.New(&admission.Options{ComfortThreshold: 1000})
	if err != nil {
		panic(err)
	}
	now := time.Now()
	c.ObserveCapacityAt(100, now)

	job := admission.Request{
		JobID: "transcode-17", Buyer: "studio", Provider: "farm",
		Lane: admission.Industrial, Shards: 80, Duration: 10 * time.Second,
	}
	first := c.DecideAt(job, now)
	fmt.Println(first.Code)

	job.JobID = "transcode-18"
	fmt.Println(c.DecideAt(job, now).Code)

	// The first job ends early and gives back what it did not use.
	fmt.Println(c.ReleaseAt(first.Lease, now.Add(time.Second)))
	fmt.Println(c.DecideAt(job, now.Add(time.Second)).Code)

	// Nobody asks a consumer to wait.
	job.Lane = admission.Consumer
	fmt.Println(c.DecideAt(job, now.Add(time.Second)).Code)

	// A request that makes no sense says what is wrong with it.
	job.Lane = 0
	fmt.Println(c.DecideAt(job, now).Code, job.Validate())
	// Output:
	// admitted
	// capacity
	// true
	// admitted
	// admitted
	// invalid admission: unknown lane: the request declares none
}
