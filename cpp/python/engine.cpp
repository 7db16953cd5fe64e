// recblr._core.Engine: the engine behind recblr.Engine, which documents its methods.
//
// Ids become text and item numbers here.  All else is in cpp/engine.
#include "engine/engine.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bind_engine.h"

namespace py = pybind11;
using namespace py::literals;
using recblr::engine::distinct;
using recblr::engine::Engine;
using recblr::engine::Filter;
using recblr::engine::kNoTime;
using recblr::engine::Problem;
using recblr::engine::Scored;
using recblr::engine::Update;

namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;
using Doubles = py::array_t<double, py::array::c_style | py::array::forcecast>;
using Items = std::vector<std::int32_t>;

std::string type_of(py::handle value) { return Py_TYPE(value.ptr())->tp_name; }

// The int that an integer of any type is, or null.
py::object whole_number(py::handle value) {
  if (PyBool_Check(value.ptr()) || !PyIndex_Check(value.ptr())) return {};
  auto number = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!number) PyErr_Clear();
  return number;
}

// An id as text: a text itself, or an integer in decimal.
std::string id_of(py::handle id, const char* what) {
  if (PyUnicode_Check(id.ptr())) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(id.ptr(), &size);
    if (text) return {text, static_cast<std::size_t>(size)};
    PyErr_Clear();
    throw Problem(std::string(what) + " id is not text that can be encoded as UTF-8", "give text or an integer");
  }
  if (const auto number = whole_number(id)) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
    if (!overflow) return std::to_string(value);
    const auto text = py::reinterpret_steal<py::object>(PyObject_Str(number.ptr()));
    if (text) return py::cast<std::string>(text);
    PyErr_Clear();
    throw Problem(std::string(what) + " id is an integer of thousands of digits", "give it as text");
  }
  throw Problem(std::string(what) + " id has the type " + type_of(id), "give text or an integer");
}

// f(element) for the elements of a list or an array; one id alone is no list.
template <typename F>
void over(py::handle ids, const char* what, F&& f) {
  const bool text = PyUnicode_Check(ids.ptr()) || PyBytes_Check(ids.ptr()) || PyByteArray_Check(ids.ptr());
  const auto iterator = py::reinterpret_steal<py::object>(text ? nullptr : PyObject_GetIter(ids.ptr()));
  if (!iterator) {
    PyErr_Clear();
    throw Problem(std::string(what) + " must be a list of ids, but is one value of the type " + type_of(ids),
                  "put it into a list");
  }
  while (const auto id = py::reinterpret_steal<py::object>(PyIter_Next(iterator.ptr()))) f(id);
  if (PyErr_Occurred()) throw py::error_already_set();
}

std::vector<std::string> texts(py::handle ids, const char* what) {
  std::vector<std::string> found;
  over(ids, what, [&](py::handle id) { found.push_back(id_of(id, what)); });
  return found;
}

Items numbers(const Engine& engine, py::handle ids, const char* what) {
  Items found;
  over(ids, what, [&](py::handle id) { found.push_back(engine.item_of(id_of(id, "an item"))); });
  return found;
}

Filter filter_of(const Engine& engine, const py::object& exclude, const py::object& allow, bool mask_seen) {
  Filter filter;
  filter.mask_seen = mask_seen;
  if (!exclude.is_none()) filter.excluded = distinct(numbers(engine, exclude, "exclude"));
  if (!allow.is_none()) {
    filter.allowed = distinct(numbers(engine, allow, "allow"));
    filter.only_allowed = true;
    if (filter.allowed.empty())
      throw Problem("allow is empty, so no item may be recommended", "give items, or None to allow all");
  }
  return filter;
}

bool is_number(const py::dtype& type) { return std::strchr("iuf", type.kind()) != nullptr; }

// Infinite times are wrong, as NaN is, and only no time is kNoTime.
double finite_or_nan(double time) { return std::isfinite(time) ? time : std::numeric_limits<double>::quiet_NaN(); }

// A datetime64 converts to a number too, but not of seconds.
double second_of(const py::object& time) {
  if (time.is_none()) return kNoTime;
  if (PyFloat_Check(time.ptr())) return finite_or_nan(PyFloat_AS_DOUBLE(time.ptr()));
  if (PyLong_CheckExact(time.ptr())) {
    const double seconds = PyLong_AsDouble(time.ptr());
    if (PyErr_Occurred())
      PyErr_Clear();  // it returned -1: too large for a double
    else
      return seconds;
    return std::numeric_limits<double>::quiet_NaN();
  }
  const py::array array = py::array::ensure(time);
  if (!array) PyErr_Clear();
  if (!array || array.ndim() != 0 || !is_number(array.dtype()))
    throw Problem("time has the type " + type_of(time), "give seconds since 1970 as a number");
  return finite_or_nan(*Doubles(array).data());
}

std::vector<double> seconds(const py::object& times, std::size_t count, const char* what) {
  if (times.is_none()) return {};
  const py::array array = py::array::ensure(times);
  if (!array) PyErr_Clear();
  if (!array || !is_number(array.dtype()) || array.ndim() != 1)
    throw Problem("times is not a list of numbers, but of the type " + type_of(times),
                  "give seconds since 1970, one for each event");
  if (static_cast<std::size_t>(array.size()) != count)
    throw Problem(
        "there are " + std::to_string(count) + " " + what + ", but " + std::to_string(array.size()) + " time(s)",
        "give one time for each");
  const Doubles numbers(array);
  std::vector<double> found(numbers.data(), numbers.data() + numbers.size());
  for (double& time : found) time = finite_or_nan(time);
  return found;
}

// The ids of the items that `found` names.
template <typename T>
std::vector<std::string> ids_of(const Engine& engine, const std::vector<T>& found) {
  Items items;
  items.reserve(found.size());
  for (const T& one : found) items.push_back(one.item);
  return engine.ids_of(items);
}

py::list pairs(const Engine& engine, const std::vector<Scored>& best) {
  const std::vector<std::string> ids = ids_of(engine, best);
  py::list list(best.size());
  for (std::size_t i = 0; i < best.size(); ++i) list[i] = py::make_tuple(ids[i], best[i].score);
  return list;
}

std::int64_t k_of(const Engine& engine, const py::object& value) {
  const py::object number = whole_number(value);
  if (!number) throw Problem("k, the number of items to recommend, has the type " + type_of(value), "give an integer");
  int overflow = 0;
  long long k = PyLong_AsLongLongAndOverflow(number.ptr(), &overflow);
  if (overflow) k = overflow * std::numeric_limits<std::int64_t>::max();
  const std::int64_t items = engine.num_items();
  if (k > items)
    throw Problem("k is " + std::to_string(k) + ", but the catalogue has " + std::to_string(items) + " items",
                  "give a k of at most " + std::to_string(items));
  return k;
}

// The engine takes an empty id for none.
std::string event_of(py::handle id) {
  std::string text = id_of(id, "an event");
  if (text.empty()) throw Problem("an event id is empty", "give each event an id of its own, or none");
  return text;
}

// The arguments are checked by recblr.Engine, which reads the model file.
std::unique_ptr<Engine> make(const py::dict& facts, const py::dict& weights, const Floats& rows,
                             std::vector<std::string> item_ids, const py::dict& options) {
  recblr::engine::Facts f{};
  f.shape.width = facts["d_model"].cast<std::int64_t>();
  f.shape.inner = facts["d_inner"].cast<std::int64_t>();
  f.shape.taps = facts["d_conv"].cast<std::int64_t>();
  f.shape.layers = facts["num_layers"].cast<std::int64_t>();
  f.shape.padding_steps = facts["padding_steps"].cast<std::int64_t>();
  f.shape.beta_epsilon = facts["beta_epsilon"].cast<double>();
  f.shape.past = facts["time"].cast<std::string>() != "none";
  f.shape.request = facts["time"].cast<std::string>() == "request";
  f.clock = {facts["longest_gap"].cast<double>(), facts["step"].cast<double>(), facts["start"].cast<double>()};
  f.repeats = !facts["repeat_bias"].is_none();
  f.repeat_bias = f.repeats ? facts["repeat_bias"].cast<float>() : 0;
  f.max_length = facts["max_length"].is_none() ? 0 : facts["max_length"].cast<std::int64_t>();
  f.digest = facts["digest"].cast<std::string>();
  if (f.digest.size() != 32) throw py::value_error("the digest must have 32 bytes");
  std::map<std::string, recblr::engine::Array> arrays;
  std::vector<Floats> kept;
  for (const auto& [name, value] : weights) {
    kept.push_back(value.cast<Floats>());
    arrays[name.cast<std::string>()] = {kept.back().data(),
                                        {kept.back().shape(), kept.back().shape() + kept.back().ndim()}};
  }
  const std::string table = options["table"].cast<std::string>();
  recblr::engine::Options o{};
  o.threads = options["threads"].cast<int>();
  o.half_states = options["half_states"].cast<bool>();
  o.table = table == "int8"       ? recblr::engine::Precision::int8
            : table == "bfloat16" ? recblr::engine::Precision::bfloat16
                                  : recblr::engine::Precision::float32;
  o.history = options["history"].cast<bool>();
  o.seen_budget = options["seen_budget"].cast<std::int64_t>();
  if (rows.ndim() != 2 || rows.shape(0) != static_cast<py::ssize_t>(item_ids.size()) || rows.shape(1) != f.shape.width)
    throw py::value_error("rows must be (items, d_model)");
  const float* const data = rows.data();
  const py::gil_scoped_release nogil;
  return std::make_unique<Engine>(f, arrays, data, std::move(item_ids), o);
}

bool update(Engine& engine, const py::object& user, const py::object& item, const py::object& time,
            const py::object& event_id) {
  const std::string id = id_of(user, "a user");
  Update event{id, engine.item_of(id_of(item, "an item")), second_of(time),
               event_id.is_none() ? std::string() : event_of(event_id)};
  const py::gil_scoped_release nogil;
  return engine.update(event);
}

std::int64_t update_many(Engine& engine, const py::object& users, const py::object& items, const py::object& times,
                         const py::object& event_ids) {
  std::vector<std::string> ids = texts(users, "users");
  const Items numbered = numbers(engine, items, "items");
  if (numbered.size() != ids.size())
    throw Problem(
        "there are " + std::to_string(ids.size()) + " users, but " + std::to_string(numbered.size()) + " items",
        "give one item for each user");
  const std::vector<double> moments = seconds(times, ids.size(), "users");
  std::vector<std::string> events;
  if (!event_ids.is_none()) over(event_ids, "event_ids", [&](py::handle id) { events.push_back(event_of(id)); });
  if (!event_ids.is_none() && events.size() != ids.size())
    throw Problem(
        "there are " + std::to_string(ids.size()) + " users, but " + std::to_string(events.size()) + " event ids",
        "give one for each event");
  std::vector<Update> updates(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i)
    updates[i] = {std::move(ids[i]), numbered[i], moments.empty() ? kNoTime : moments[i],
                  events.empty() ? std::string() : std::move(events[i])};
  const py::gil_scoped_release nogil;
  return engine.update_many(updates);
}

py::list recommend(Engine& engine, const py::object& user, const py::object& k, const py::object& time,
                   const py::object& exclude, const py::object& allow, bool mask_seen) {
  const std::int64_t most = k_of(engine, k);
  const std::string id = id_of(user, "a user");
  const double moment = second_of(time);
  const Filter filter = filter_of(engine, exclude, allow, mask_seen);
  std::vector<Scored> best;
  {
    const py::gil_scoped_release nogil;
    best = engine.recommend(id, most, moment, filter);
  }
  return pairs(engine, best);
}

py::list recommend_many(Engine& engine, const py::object& users, const py::object& k, const py::object& times,
                        const py::object& exclude, const py::object& allow, bool mask_seen) {
  const std::int64_t most = k_of(engine, k);
  const std::vector<std::string> ids = texts(users, "users");
  const std::vector<double> moments = seconds(times, ids.size(), "users");
  const Filter filter = filter_of(engine, exclude, allow, mask_seen);
  std::vector<std::vector<Scored>> best;
  {
    const py::gil_scoped_release nogil;
    best = engine.recommend_many(ids, most, moments, filter);
  }
  py::list lists(best.size());
  for (std::size_t u = 0; u < best.size(); ++u) lists[u] = pairs(engine, best[u]);
  return lists;
}

py::list recommend_history(Engine& engine, const py::object& items, const py::object& k, const py::object& times,
                           const py::object& time, const py::object& exclude, const py::object& allow, bool mask_seen) {
  const std::int64_t most = k_of(engine, k);
  const Items history = numbers(engine, items, "items");
  const std::vector<double> moments = seconds(times, history.size(), "items");
  const double moment = second_of(time);
  const Filter filter = filter_of(engine, exclude, allow, mask_seen);
  std::vector<Scored> best;
  {
    const py::gil_scoped_release nogil;
    best = engine.recommend_history(history, most, moments, moment, filter);
  }
  return pairs(engine, best);
}

py::array_t<float> vector(Engine& engine, const py::object& user, const py::object& time) {
  const std::string id = id_of(user, "a user");
  const double moment = second_of(time);
  std::vector<float> values;
  {
    const py::gil_scoped_release nogil;
    values = engine.vector(id, moment);
  }
  return py::array_t<float>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::array_t<float> score(Engine& engine, const py::object& user, const py::object& items, const py::object& time) {
  const std::string id = id_of(user, "a user");
  const Items numbered = numbers(engine, items, "items");
  const double moment = second_of(time);
  std::vector<float> scores;
  {
    const py::gil_scoped_release nogil;
    scores = engine.score(id, numbered, moment);
  }
  return py::array_t<float>(static_cast<py::ssize_t>(scores.size()), scores.data());
}

py::list explain(Engine& engine, const py::object& user, const py::object& item, const py::object& time) {
  const std::string id = id_of(user, "a user");
  const std::int32_t number = engine.item_of(id_of(item, "an item"));
  const double moment = second_of(time);
  std::vector<recblr::engine::Influence> found;
  {
    const py::gil_scoped_release nogil;
    found = engine.explain(id, number, moment);
  }
  const std::vector<std::string> ids = ids_of(engine, found);
  py::list list(found.size());
  for (std::size_t i = 0; i < found.size(); ++i) list[i] = py::make_tuple(found[i].position, ids[i], found[i].change);
  return list;
}

py::list similar(Engine& engine, const py::object& item, const py::object& k) {
  const std::int64_t most = k_of(engine, k);
  const std::int32_t number = engine.item_of(id_of(item, "an item"));
  std::vector<Scored> found;
  {
    const py::gil_scoped_release nogil;
    found = engine.similar(number, most);
  }
  return pairs(engine, found);
}

// times: None, or the times of each history.
void rebuild(Engine& engine, const py::object& users, const py::list& histories, const py::object& times) {
  const std::vector<std::string> ids = texts(users, "users");
  std::vector<Items> items;
  for (const py::handle history : histories) items.push_back(numbers(engine, history, "a history"));
  std::vector<std::vector<double>> moments;
  if (!times.is_none()) {
    std::size_t u = 0;
    for (const py::handle one : times)
      moments.push_back(seconds(py::reinterpret_borrow<py::object>(one), items[u].size(), "items")), ++u;
  }
  const py::gil_scoped_release nogil;
  engine.rebuild(ids, items, moments);
}

// vectors (N, D), or None; like: for each new item the items whose mean vector it gets.
void add_items(Engine& engine, const py::object& ids, const std::optional<Floats>& vectors, const py::object& like) {
  const std::vector<std::string> names = texts(ids, "ids");
  std::vector<float> rows;
  std::size_t given = 0;
  if (vectors) {
    given = static_cast<std::size_t>(vectors->shape(0));
    rows.assign(vectors->data(), vectors->data() + vectors->size());
  } else {
    over(like, "like", [&](py::handle list) {
      const Items others = numbers(engine, list, "each element of like");
      if (others.empty()) throw Problem("a list in like is empty", "give one item or more for each new item");
      std::vector<float> vector;
      std::vector<double> sum;
      for (const std::int32_t other : others) {
        vector.clear();
        engine.append_vector(other, vector);
        sum.resize(vector.size());
        for (std::size_t c = 0; c < vector.size(); ++c) sum[c] += vector[c];
      }
      for (const double x : sum) rows.push_back(static_cast<float>(x / static_cast<double>(others.size())));
      ++given;
    });
  }
  if (given != names.size())
    throw Problem("there are " + std::to_string(names.size()) + " new items, but " + std::to_string(given) +
                      (vectors ? " vectors" : " lists in like"),
                  "give one for each");
  const py::gil_scoped_release nogil;  // it waits for the searches that run
  engine.add_items(names, rows.data());
}

void retire_items(Engine& engine, const py::object& ids) {
  const Items items = numbers(engine, ids, "ids");
  const py::gil_scoped_release nogil;
  engine.retire_items(items);
}

// The ids, the vectors of the added items, and the numbers of the retired ones.
py::tuple items(const Engine& engine) {
  const Engine::Items all = [&] {
    const py::gil_scoped_release nogil;
    return engine.items();
  }();
  return py::make_tuple(all.ids, py::array_t<float>(static_cast<py::ssize_t>(all.added.size()), all.added.data()),
                        all.retired);
}

// f(the user's id) while other threads of Python run.
template <typename F>
auto without_lock(const py::object& user, const F& f) {
  const std::string id = id_of(user, "a user");
  const py::gil_scoped_release nogil;
  return f(id);
}

}  // namespace

void bind_engine(py::module_& m) {
  py::register_local_exception_translator([](std::exception_ptr error) {
    try {
      std::rethrow_exception(error);
    } catch (const Problem& p) {
      const py::object type = py::module_::import("recblr.errors").attr("InputError");
      const py::object value = type(p.problem, p.remedy);
      PyErr_SetObject(type.ptr(), value.ptr());
    }
  });
  py::class_<Engine>(m, "Engine")
      .def(py::init(&make), "facts"_a, "weights"_a, "rows"_a, "item_ids"_a, "options"_a, py::keep_alive<1, 4>())
      .def("update", &update, "user"_a, "item"_a, "time"_a = py::none(), "event_id"_a = py::none())
      .def("update_many", &update_many, "users"_a, "items"_a, "times"_a, "event_ids"_a)
      .def("recommend", &recommend, "user"_a, "k"_a, "time"_a, "exclude"_a, "allow"_a, "mask_seen"_a)
      .def("recommend_many", &recommend_many, "users"_a, "k"_a, "times"_a, "exclude"_a, "allow"_a, "mask_seen"_a)
      .def("recommend_history", &recommend_history, "items"_a, "k"_a, "times"_a, "time"_a, "exclude"_a, "allow"_a,
           "mask_seen"_a)
      .def("vector", &vector, "user"_a, "time"_a)
      .def("score", &score, "user"_a, "items"_a, "time"_a)
      .def("explain", &explain, "user"_a, "item"_a, "time"_a)
      .def("similar", &similar, "item"_a, "k"_a)
      .def("state",
           [](Engine& e, const py::object& user) {
             return py::bytes(without_lock(user, [&](const std::string& id) { return e.state(id); }));
           })
      .def("set_state",
           [](Engine& e, const py::object& user, const std::string& state) {
             without_lock(user, [&](const std::string& id) { e.set_state(id, state); });
           })
      .def("forget",
           [](Engine& e, const py::object& user) {
             return without_lock(user, [&](const std::string& id) { return e.forget(id); });
           })
      .def("knows",
           [](Engine& e, const py::object& user) {
             return without_lock(user, [&](const std::string& id) { return e.knows(id); });
           })
      .def("seen",
           [](Engine& e, const py::object& user) {
             return without_lock(user, [&](const std::string& id) { return e.ids_of(e.seen(id)); });
           })
      .def("rebuild", &rebuild, "users"_a, "histories"_a, "times"_a)
      .def("user_ids", &Engine::user_ids, py::call_guard<py::gil_scoped_release>())
      .def("add_items", &add_items, "ids"_a, "vectors"_a, "like"_a)
      .def("items", &items)
      .def("retire_items", &retire_items, "ids"_a)
      .def("item_ids", &Engine::item_ids, py::call_guard<py::gil_scoped_release>())
      .def("num_items", &Engine::num_items)
      .def("users", &Engine::users)
      .def("seen_bytes", &Engine::seen_bytes)
      .def("bytes_of_user", &Engine::bytes_of_user)
      .def("threads", &Engine::threads);
}
