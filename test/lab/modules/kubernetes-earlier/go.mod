module lab/kubernetes-earlier

go 1.22.0
