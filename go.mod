module github.com/computemarket/computemarket

go 1.26.0
