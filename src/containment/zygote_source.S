/* The zygote's program as bytes. The path comes from the build. */
        .section .rodata
        .global drover_zygote_begin
        .global drover_zygote_end
drover_zygote_begin:
        .incbin DROVER_ZYGOTE_FILE
drover_zygote_end:
        .section .note.GNU-stack,"",%progbits
