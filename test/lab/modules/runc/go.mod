module lab/runc

go 1.26.0
