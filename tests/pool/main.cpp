// The test program is its own worker: drover::init is the first line of main. With `--host MODE` it is a program that uses a pool
// and that the tests start, watch and kill.
#include <gtest/gtest.h>

#include "pool/hosts.hpp"

int main(int argc, char** argv) {
  if (argc > 2 && std::strcmp(argv[1], "--host") == 0 && std::strcmp(argv[2], "without-init") == 0) return drover::test::host_without_init();
  drover::test::init_deeds(argc, argv);
  if (argc > 2 && std::strcmp(argv[1], "--host") == 0) return drover::test::run_host(argv[2]);
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
