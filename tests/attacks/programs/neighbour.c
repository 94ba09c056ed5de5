/* The innocent job beside an attack: reads numbers until stdin ends, prints their sum. */
#include "attack.h"

int main(void) {
    long long number, sum = 0;
    while (scanf("%lld", &number) == 1) {
        sum += number;
    }
    say_number("sum", sum);
    return 0;
}
