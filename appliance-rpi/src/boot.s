// First instructions: from whatever exception level the firmware chose down to EL1, then into Rust.
// The header is that of an arm64 Linux image, which the Raspberry Pi firmware and QEMU both accept.

.section .text.boot, "ax"
.global _start
_start:
    b       entry
    .word   0
    .quad   __text_offset
    .quad   __image_size
    .quad   0xa                         // little-endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

entry:
    mov     x19, x0                     // device tree, if any
    mrs     x1, mpidr_el1
    tst     x1, #0xff
    b.ne    park                        // only core 0 works

    mrs     x1, CurrentEL
    lsr     x1, x1, #2
    and     x20, x1, #3                 // entry level, reported at boot
    cmp     x20, #2
    b.eq    at_el2
    b.lt    at_el1

at_el3:
    mov     x1, #0x5b1                  // SCR_EL3: NS, RES1, HCE, RW; SMC stays enabled
    and     x1, x1, #~(1 << 7)
    msr     scr_el3, x1
    msr     cptr_el3, xzr               // no trapping of FP
    mov     x1, #0x3c9                  // EL2h, all interrupts masked
    msr     spsr_el3, x1
    adr     x1, at_el2
    msr     elr_el3, x1
    eret

at_el2:
    mov     x1, #(1 << 31)              // EL1 is AArch64
    msr     hcr_el2, x1
    mov     x1, #3                      // EL1 reads the counter and its timer
    msr     cnthctl_el2, x1
    msr     cntvoff_el2, xzr
    mov     x1, #0x33ff                 // no trapping of FP
    msr     cptr_el2, x1
    msr     hstr_el2, xzr
    mrs     x1, midr_el1                // EL1 sees which core this is
    msr     vpidr_el2, x1
    mrs     x1, mpidr_el1
    msr     vmpidr_el2, x1
    mov     x1, #0x3c5                  // EL1h, all interrupts masked
    msr     spsr_el2, x1
    adr     x1, at_el1
    msr     elr_el2, x1
    eret

at_el1:
    msr     daifset, #0xf
    ldr     x1, =0x30d00800             // SCTLR_EL1: RES1 bits, MMU and caches off
    msr     sctlr_el1, x1
    mov     x1, #(3 << 20)              // the compiler uses FP registers
    msr     cpacr_el1, x1
    adrp    x1, exception_vectors
    add     x1, x1, :lo12:exception_vectors
    msr     vbar_el1, x1
    isb

    // Rust runs on SP_EL0; exceptions switch to SP_EL1, so that a stack overflow can still be reported.
    adrp    x1, __exception_stack_top
    add     x1, x1, :lo12:__exception_stack_top
    msr     spsel, #1
    mov     sp, x1
    adrp    x1, __stack_top
    add     x1, x1, :lo12:__stack_top
    msr     spsel, #0
    mov     sp, x1
    adrp    x1, __bss_start
    add     x1, x1, :lo12:__bss_start
    adrp    x2, __bss_end
    add     x2, x2, :lo12:__bss_end
1:  cmp     x1, x2
    b.hs    2f
    stp     xzr, xzr, [x1], #16
    b       1b
2:  mov     x29, xzr                    // ends the backtrace
    mov     x30, xzr
    mov     x0, x19
    mov     x1, x20
    bl      start

park:
    wfe
    b       park

// Exception vectors: every entry saves the general registers and hands them to Rust, which reports and resets.
// Interrupts are masked for good and no fault is repaired. Only a read of a register that is not there, where
// `mmio::answers` expected that it might not be, returns: to where that function says, which counts every register a
// call may change as changed.
.macro vector number
    .balign 128
    sub     sp, sp, #256
    stp     x0, x1, [sp]
    mov     x0, #\number
    b       save_and_report
.endm

.section .text.vectors, "ax"
.balign 2048
.global exception_vectors
exception_vectors:
    vector 0
    vector 1
    vector 2
    vector 3
    vector 4
    vector 5
    vector 6
    vector 7
    vector 8
    vector 9
    vector 10
    vector 11
    vector 12
    vector 13
    vector 14
    vector 15

save_and_report:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    str     x30, [sp, #240]
    mov     x1, sp
    bl      exception
    add     sp, sp, #256
    eret
