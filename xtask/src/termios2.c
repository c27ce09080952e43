/* qemu's user emulation knows TCGETS and TCSETS, and not the same with speeds as numbers, which serial lines are opened with.
   Loaded before the program, this asks for the former: a pseudo-terminal has no speed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>

struct termios2 {
    uint32_t input, output, control, local;
    uint8_t line, characters[19];
    uint32_t input_speed, output_speed;
};

enum { GET = 0x5401, SET = 0x5402, SPEEDS = 0x100f, B38400 = 0xf };

int ioctl(int file, unsigned long request, ...) {
    static int (*next)(int, unsigned long, ...);
    va_list list;
    va_start(list, request);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (!next) next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    uint32_t number = (uint32_t)request;
    if (number == 0x802c542a) {
        struct termios2 *asked = argument;
        int result = next(file, GET, argument);
        asked->input_speed = asked->output_speed = 38400;
        return result;
    }
    if (number >= 0x402c542b && number <= 0x402c542d) {
        struct termios2 set = *(struct termios2 *)argument;
        set.control = (set.control & ~(uint32_t)SPEEDS & 0xffff) | B38400;
        return next(file, SET + (number - 0x402c542b), &set);
    }
    return next(file, request, argument);
}
