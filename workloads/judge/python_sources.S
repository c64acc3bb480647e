/* The Python halves of judge and its corpus of attacks as bytes. Paths come from the build. */
        .section .rodata
        .global drover_judge_inproc_begin
        .global drover_judge_inproc_end
        .global drover_judge_split_common_begin
        .global drover_judge_split_common_end
        .global drover_judge_split_tests_begin
        .global drover_judge_split_tests_end
        .global drover_judge_split_candidate_begin
        .global drover_judge_split_candidate_end
drover_judge_inproc_begin:
        .incbin DROVER_JUDGE_INPROC
drover_judge_inproc_end:
drover_judge_split_common_begin:
        .incbin DROVER_JUDGE_SPLIT_COMMON
drover_judge_split_common_end:
drover_judge_split_tests_begin:
        .incbin DROVER_JUDGE_SPLIT_TESTS
drover_judge_split_tests_end:
drover_judge_split_candidate_begin:
        .incbin DROVER_JUDGE_SPLIT_CANDIDATE
drover_judge_split_candidate_end:
        .global drover_judge_attacks_begin
        .global drover_judge_attacks_end
drover_judge_attacks_begin:
        .incbin DROVER_JUDGE_ATTACKS
drover_judge_attacks_end:
        .section .note.GNU-stack,"",%progbits
