/* peers.py inside the bench program, so that one file is enough to run it anywhere. */
    .section .rodata
    .global drover_bench_peers_begin
    .global drover_bench_peers_end
drover_bench_peers_begin:
    .incbin DROVER_PEERS_FILE
drover_bench_peers_end:
    .section .note.GNU-stack, "", @progbits
