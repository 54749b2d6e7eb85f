module goev/benches/goev

go 1.20

require github.com/shaovie/goev v0.1.1-0.20230922065146-a4060b705fc2

require golang.org/x/sys v0.10.0 // indirect
