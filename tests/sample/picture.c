/*
 * Reads the centre and the width of a part of the Mandelbrot set, computes it far finer than it
 * can be shown, and prints what comes out. With the argument "colour" in colours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 76, LINES = 14, FINE_X = 20, FINE_Y = 40, DEPTH = 250 };

static unsigned escape_time(double x, double y) {
    double a = 0;
    double b = 0;
    unsigned n = 0;

    while (n < DEPTH && a * a + b * b < 4) {
        double next = a * a - b * b + x;

        b = 2 * a * b + y;
        a = next;
        n++;
    }
    return n;
}

static void compute(unsigned *points, double x, double y, double width) {
    double step = width / (COLUMNS * FINE_X);

    for (int row = 0; row < LINES * FINE_Y; row++) {
        for (int column = 0; column < COLUMNS * FINE_X; column++) {
            points[row * COLUMNS * FINE_X + column] = escape_time(
                x + (column - COLUMNS * FINE_X / 2) * step, y + (row - LINES * FINE_Y / 2) * step);
        }
    }
}

static unsigned mean(const unsigned *points, int line, int column) {
    unsigned sum = 0;

    for (int i = 0; i < FINE_Y; i++) {
        for (int j = 0; j < FINE_X; j++) {
            sum += points[(line * FINE_Y + i) * COLUMNS * FINE_X + column * FINE_X + j];
        }
    }
    return sum / (FINE_X * FINE_Y);
}

static int shade_of(unsigned time) {
    static const unsigned steps[] = {3, 5, 7, 9, 12, 17, 28, 60, 140};
    int shade = 0;

    while (shade < 9 && time >= steps[shade]) {
        shade++;
    }
    return shade;
}

static void print(const unsigned *points, int colour) {
    static const char shades[] = " .:-=+*#%@";
    static const int colours[] = {17, 18, 19, 20, 26, 32, 38, 80, 223, 231};

    for (int line = 0; line < LINES; line++) {
        int last = -1;

        for (int column = 0; column < COLUMNS; column++) {
            int shade = shade_of(mean(points, line, column));

            if (colour && shade != last) {
                printf("\033[38;5;%dm", colours[shade]);
            }
            putchar(shades[shade]);
            last = shade;
        }
        puts(colour ? "\033[0m" : "");
    }
}

int main(int argc, char **argv) {
    unsigned *points = malloc(sizeof *points * COLUMNS * FINE_X * LINES * FINE_Y);
    double x, y, width;

    if (!points || scanf("%lf %lf %lf", &x, &y, &width) != 3) {
        fputs("picture: three numbers are expected on stdin\n", stderr);
        return 1;
    }
    compute(points, x, y, width);
    print(points, argc > 1 && strcmp(argv[1], "colour") == 0);
    return 0;
}
