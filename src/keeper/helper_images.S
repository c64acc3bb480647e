/* The three static helpers as bytes. Paths come from the build. */
        .section .rodata
        .global drover_keeper_image_begin
        .global drover_keeper_image_end
        .global drover_watchdog_image_begin
        .global drover_watchdog_image_end
        .global drover_warden_image_begin
        .global drover_warden_image_end
        .balign 64
drover_keeper_image_begin:
        .incbin DROVER_KEEPER_FILE
drover_keeper_image_end:
        .balign 64
drover_watchdog_image_begin:
        .incbin DROVER_WATCHDOG_FILE
drover_watchdog_image_end:
        .balign 64
drover_warden_image_begin:
        .incbin DROVER_WARDEN_FILE
drover_warden_image_end:
        .section .note.GNU-stack,"",%progbits
