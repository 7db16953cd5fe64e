// The engine: takes events into the states of users, and answers with the best items.
//
// Users and items are named by ids as text; an index into the list of items is a number.  Everything may be called from
// many threads at once.  The events of one user are taken in one after another.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/catalogue.h"
#include "engine/pool.h"
#include "engine/problem.h"
#include "engine/step.h"
#include "engine/users.h"

namespace recblr::engine {

// The times of training, as recblr.nn.time.TimeEncoder has them, in seconds.
struct Clock {
  double longest_gap = 0, step = 0, start = 0;
};

// What the file says, beside the weights.
struct Facts {
  Shape shape;
  Clock clock;
  bool repeats;  // whether the scores of items that a user has get a bias
  float repeat_bias;
  std::int64_t max_length;  // the newest events that the model sees; 0: all
  std::string digest;       // 32 bytes, which name the weights in states
};

struct Options {
  int threads;
  bool half_states;  // bfloat16
  Precision table;
  bool history;
  std::int64_t seen_budget;  // bytes; -1: no bound
};

constexpr double kNoTime = -std::numeric_limits<double>::infinity();  // no time is given

struct Update {
  std::string user;
  std::int32_t item;
  double time;           // seconds since 1970, or kNoTime
  std::string event_id;  // empty: none
};

// Which items may be recommended.
struct Filter {
  std::vector<std::int32_t> excluded, allowed;  // sorted and distinct
  bool only_allowed = false, mask_seen = true;
};

struct Influence {
  std::int64_t position;  // of the event in the history, from 0
  std::int32_t item;
  float change;  // of the score, by the event: with it, less without it
};

class Engine {
 public:
  Engine(const Facts& facts, const std::map<std::string, Array>& weights, const float* rows,
         std::vector<std::string> item_ids, const Options& options);

  std::int32_t item_of(std::string_view id) const;
  std::vector<std::string> ids_of(const std::vector<std::int32_t>& items) const;
  std::int64_t num_items() const;
  std::vector<std::string> item_ids() const;

  bool update(const Update& event);
  std::int64_t update_many(const std::vector<Update>& events);
  // time: of the request, or kNoTime: that of the last event.
  std::vector<Scored> recommend(const std::string& user, std::int64_t k, double time, const Filter& filter);
  std::vector<std::vector<Scored>> recommend_many(const std::vector<std::string>& users, std::int64_t k,
                                                  const std::vector<double>& times, const Filter& filter);
  std::vector<Scored> recommend_history(const std::vector<std::int32_t>& items, std::int64_t k,
                                        const std::vector<double>& times, double time, const Filter& filter);
  // The vector of a user, (D): a score is its product with the vector of an item, plus the bias if the user has it.
  std::vector<float> vector(const std::string& user, double time);
  std::vector<float> score(const std::string& user, const std::vector<std::int32_t>& items, double time);
  std::vector<Influence> explain(const std::string& user, std::int32_t item, double time);
  std::vector<Scored> similar(std::int32_t item, std::int64_t k) const;

  std::string state(const std::string& user);
  void set_state(const std::string& user, const std::string& bytes);
  bool forget(const std::string& user);
  bool knows(const std::string& user);
  // Puts these histories in the place of what is kept of their users.
  void rebuild(const std::vector<std::string>& users, const std::vector<std::vector<std::int32_t>>& items,
               const std::vector<std::vector<double>>& times);
  std::vector<std::string> user_ids();
  std::vector<std::int32_t> seen(const std::string& user);

  // The vector of an item, (D), appended to `row`.
  void append_vector(std::int32_t item, std::vector<float>& rows) const;
  void add_items(const std::vector<std::string>& ids, const float* rows);
  void retire_items(const std::vector<std::int32_t>& items);
  // All items of one moment: their ids, the vectors of the added ones, and the numbers of the retired ones.
  struct Items {
    std::vector<std::string> ids;
    std::vector<float> added;
    std::vector<std::int32_t> retired;
  };
  Items items() const;

  std::int64_t users() const { return users_.count(); }
  std::int64_t seen_bytes() const { return users_.seen_bytes(); }
  std::int64_t bytes_of_user() const { return row_bytes_; }
  int threads() const { return pool_.threads(); }

 private:
  enum class Uses { none, past, request };
  struct Asked {  // what the catalogue needs of one user
    std::vector<float> hidden;
    std::vector<std::int32_t> seen;
  };

  const Weights& weights() const { return model_.weights(); }
  double moment(double time) const;
  float gap(double from, double to) const;
  float* hidden_of(const User& user) const;
  void check_time(double time, const char* what) const;
  void check_request(double last, double& time) const;
  std::vector<float> answer_of(const User& user, double time);
  std::int64_t read_from() const;
  Asked asked_of(const std::string& user, double time);
  template <typename S>
  bool admit(const User& user, std::int32_t item, double time, Event<S>& event) const;
  void check_order(const Update& event, double before) const;
  template <typename S>
  bool take_in(const Update& event, Users::Slot slot, Event<S>& passed);
  template <typename S>
  void take_one(const Update& event, Users::Slot slot);
  struct Batch;
  void choose(Batch& batch) const;
  void take_room(const Batch& batch, Users::Room& room) const;
  void find_users(Batch& batch);
  template <typename S>
  void take(const Batch& batch, const std::vector<std::size_t>& chosen);
  template <typename S>
  void keep_hidden(const User& user, const float* hidden) const;
  void check_history(const std::vector<std::int32_t>& items, const std::vector<double>& times) const;
  void pass_history(const std::int32_t* items, const double* times, std::int64_t count, double before, double after,
                    float* state, float* hidden) const;
  std::vector<float> answer_to(const std::int32_t* items, const double* times, std::int64_t count, double time) const;
  template <typename S>
  void replay(Users::Slot slot, const std::vector<std::int32_t>& items, const std::vector<double>& times);
  Filter scannable(const Filter& filter) const;
  Query query_of(const Asked& asked, const Filter& filter) const;
  std::vector<Scored> best(const Asked& asked, std::int64_t k, const Filter& filter);
  Problem unknown_user(const std::string& user) const;
  void check_seen_budget(bool fits, std::int64_t events) const;

  Facts facts_;
  Options options_;
  Uses uses_;
  bool windowed_;
  Model model_;
  std::vector<char> start_row_;
  std::int64_t row_bytes_;
  Pool pool_;
  mutable std::shared_mutex items_lock_;  // of the catalogue and the ids
  Catalogue catalogue_;
  std::vector<std::string> item_ids_;
  std::size_t file_items_;  // how many of them the file has
  std::unordered_map<std::string, std::int32_t> numbers_;
  Users users_;
};

}  // namespace recblr::engine
