// Threads that add to one number without saying so: a thread sanitizer that stays silent here proves nothing
// elsewhere.

#include <cstdio>

int main() {
  long sum = 0;
#pragma omp parallel for num_threads(4)
  for (long i = 0; i < 100000; ++i) sum += i;
  std::printf("%ld\n", sum);
}
